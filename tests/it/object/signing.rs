//! What the signature of a call covers, seen on the wire.

use std::sync::{Arc, Mutex};

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use recording_harvester::object::s3::{S3Settings, S3Store, StaticCredentials};
use recording_harvester::object::{ObjectAttributes, ObjectStore as _, PutEnd, WriteEnd};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::s3::payload;

const SECRET: &str = "a secret of the test";

/// What one call carried.
#[derive(Clone, Debug)]
struct Seen {
    /// The header `x-amz-content-sha256`.
    told: String,
    /// SHA-256 of the body that came, in hex.
    found: String,
    /// Whether the signature is that of a call with this very body.
    is_body_signed: bool,
    is_sdk: bool,
}

/// A store that takes everything but the first calls, and looks only at signatures.
struct Wire {
    seen: Arc<Mutex<Vec<Seen>>>,
    port: u16,
    _serving: JoinSet<()>,
}

impl Wire {
    /// Answers the first `failures` calls with 500.
    async fn start(failures: usize) -> Wire {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                connections.spawn(async move {
                    let answer =
                        service_fn(async |request| answer(request, &noted, failures).await);
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer);
                    // The client ends its connections as it likes.
                    let _ = serving.await;
                });
            }
        });
        Wire {
            seen,
            port,
            _serving: serving,
        }
    }

    /// Reached under a name or address `host` of this machine.
    async fn store(&self, host: &str) -> S3Store {
        let settings = S3Settings {
            bucket: "recordings".to_owned(),
            region: Some("us-east-1".to_owned()),
            endpoint: Some(format!("http://{host}:{}", self.port)),
            path_style: true,
            credentials: Some(StaticCredentials {
                access_key: "AKID".to_owned(),
                secret_key: SECRET.into(),
            }),
            slowest_bytes_per_second: 1 << 20,
        };
        S3Store::connect(settings).await.unwrap()
    }

    fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Vec<Seen>>,
    failures: usize,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let found = hex::encode(digest::digest(&digest::SHA256, &body));
    let value = |name: &str| head.headers.get(name).unwrap().to_str().unwrap().to_owned();
    let is_body_signed = value("authorization").ends_with(&signature(&head, &found));
    let count = {
        let mut seen = seen.lock().unwrap();
        seen.push(Seen {
            told: value("x-amz-content-sha256"),
            found,
            is_body_signed,
            is_sdk: value("user-agent").contains("aws-sdk"),
        });
        seen.len()
    };
    let status = if count <= failures { 500 } else { 200 };
    let response = Response::builder().status(status).header("etag", "\"e\"");
    Ok(response.body(Full::new(Bytes::new())).unwrap())
}

/// The signature of a call whose body has this SHA-256 (Amazon S3 API reference, "Signature Calculations").
fn signature(head: &http::request::Parts, sha256: &str) -> String {
    let header = |name: &str| head.headers[name].to_str().unwrap().trim().to_owned();
    let authorization = header("authorization");
    let field = |name: &str| {
        let (_, rest) = authorization.split_once(name).unwrap();
        rest.split(',').next().unwrap().to_owned()
    };
    let scope = field("Credential=AKID/");
    let signed = field("SignedHeaders=");
    let mut query: Vec<_> = head.uri.query().unwrap_or_default().split('&').collect();
    query.sort_unstable();
    let headers: String = signed
        .split(';')
        .map(|name| format!("{name}:{}\n", header(name)))
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{signed}\n{sha256}",
        head.method,
        head.uri.path(),
        query.join("&")
    );
    let canonical = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{canonical}",
        header("x-amz-date")
    );
    let mac = |key: &[u8], text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let secret = format!("AWS4{SECRET}").into_bytes();
    let key = scope.split('/').fold(secret, |key, part| mac(&key, part));
    hex::encode(mac(&key, &text))
}

/// An object and a part on their way.
async fn send(store: &S3Store) {
    let content = payload(b"a recording that nobody on the way may change");
    let attributes = ObjectAttributes::default();
    let put = store.put_shown("a/b c.mp4", &content, &attributes, None);
    let PutEnd { end, .. } = put.await.unwrap();
    assert_eq!(end, WriteEnd::Done);
    let part = store.upload_part("a/b c.mp4", "id", 1, &content);
    part.await.unwrap();
}

// S15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_plain_http_to_another_machine_the_signature_covers_the_payload() {
    // Without the SDK, and with it where the first call has failed.
    for failures in [0, 1] {
        let wire = Wire::start(failures).await;
        // No loopback address, though it leads here: who reads the URL can't know.
        send(&wire.store("0.0.0.0").await).await;
        let seen = wire.take_seen();
        assert_eq!(seen.len(), 2 + failures, "{seen:?}");
        assert_eq!(seen.iter().filter(|seen| seen.is_sdk).count(), failures);
        for seen in seen {
            assert_eq!(seen.told, seen.found);
            assert!(seen.is_body_signed, "{seen:?}");
        }
    }
}

// S15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_this_machine_the_payload_goes_unsigned() {
    let wire = Wire::start(0).await;
    send(&wire.store("127.0.0.1").await).await;
    for seen in wire.take_seen() {
        assert_eq!(seen.told, "UNSIGNED-PAYLOAD");
    }
}
