//! Where the real program archives: its own object store, or one of another kind beside it.

use std::path::{Path, PathBuf};

use recording_harvester::object::embedded::EmbeddedS3;
use secrecy::ExposeSecret as _;
use tokio::process::Command;

use super::binary::{self, Running};
use super::s3::{self, TestS3};
use super::stores::StoreKind;

/// The bucket of the program's own object store.
const OWN_BUCKET: &str = "archive";

/// The archive of one configuration.
pub struct Archive {
    config: PathBuf,
    /// None: the program's own.
    beside: Option<TestS3>,
}

impl Archive {
    /// Of the kind of store that this run of the tests is about.
    pub async fn of_this_run(config: &Path) -> Archive {
        Archive::of_kind(StoreKind::of_this_run(), config).await
    }

    /// The program's own store does all that S3 does, and is killed with it. Any other kind is a server beside it,
    /// which `config` names from now on.
    pub async fn of_kind(kind: StoreKind, config: &Path) -> Archive {
        let beside = match kind {
            StoreKind::Full => None,
            _ => Some(TestS3::of_kind(kind).await),
        };
        if let Some(s3) = &beside {
            let bucket = format!(
                "[archive]\nbucket = \"{}\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\n",
                s3::BUCKET,
                s3.endpoint()
            );
            let text = std::fs::read_to_string(config).unwrap();
            assert!(text.contains("[archive]\n"), "{text}");
            std::fs::write(config, text.replace("[archive]\n", &bucket)).unwrap();
        }
        Archive {
            config: config.to_owned(),
            beside,
        }
    }

    /// The program with its keys.
    pub fn harvester(&self, arguments: &[&str]) -> Command {
        let mut command = binary::harvester(&self.config, arguments);
        command.envs(self.env());
        command
    }

    /// A `harvester run` with its keys.
    pub async fn start(&self) -> Running {
        let env = self.env();
        let env: Vec<_> = env.iter().map(|(name, key)| (*name, &**key)).collect();
        Running::start_with(&self.config, &[], &env).await
    }

    /// Runs a command to its end; gives what it printed and its exit code.
    pub async fn finish(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let env = self.env();
        let env: Vec<_> = env.iter().map(|(name, key)| (*name, &**key)).collect();
        binary::finish_with(&self.config, arguments, &env).await
    }

    /// The folder in which its objects are files.
    pub fn objects(&self) -> PathBuf {
        match &self.beside {
            None => self.own_root().join(OWN_BUCKET),
            Some(s3) => s3.root().join(s3::BUCKET),
        }
    }

    /// What is in it when the program has ended.
    pub async fn bucket(self) -> Bucket {
        if let Some(s3) = self.beside {
            return Bucket {
                objects: s3.client(),
                name: s3::BUCKET,
                _server: Server::Beside(s3),
            };
        }
        let server = s3::start_embedded(&self.own_root()).await;
        Bucket {
            objects: s3::raw_client(&server.endpoint(), &server.credentials()),
            name: OWN_BUCKET,
            _server: Server::Own(server),
        }
    }

    fn own_root(&self) -> PathBuf {
        self.config.with_file_name("data").join("s3")
    }

    fn env(&self) -> Vec<(&'static str, String)> {
        let Some(s3) = &self.beside else {
            return Vec::new();
        };
        let credentials = s3.credentials();
        vec![
            ("AWS_ACCESS_KEY_ID", credentials.access_key.clone()),
            (
                "AWS_SECRET_ACCESS_KEY",
                credentials.secret_key.expose_secret().to_owned(),
            ),
        ]
    }
}

/// A bucket to look into.
pub struct Bucket {
    objects: aws_sdk_s3::Client,
    name: &'static str,
    _server: Server,
}

#[expect(dead_code, reason = "held so that it goes on")]
enum Server {
    Own(EmbeddedS3),
    Beside(TestS3),
}

impl Bucket {
    /// The object under `key`.
    pub async fn get(&self, key: &str) -> Option<bytes::Bytes> {
        let object = self.objects.get_object().bucket(self.name).key(key).send();
        let object = object.await.ok()?;
        Some(object.body.collect().await.unwrap().into_bytes())
    }

    /// All keys in order.
    pub async fn keys(&self) -> Vec<String> {
        let mut pages = self
            .objects
            .list_objects_v2()
            .bucket(self.name)
            .into_paginator()
            .send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let objects = page.unwrap().contents.unwrap_or_default();
            keys.extend(objects.into_iter().filter_map(|object| object.key));
        }
        keys
    }
}
