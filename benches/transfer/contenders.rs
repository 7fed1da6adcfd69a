//! Who is measured, and how each is called. The others get the flags that make them fastest here.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::stage::Stage;

/// What the floor carries whole.
const SMALL_BYTES: u64 = 1 << 20;

/// One case: what is carried, from where.
pub(crate) struct Case<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) names: &'a [String],
    /// Of one object.
    pub(crate) size: u64,
    pub(crate) origin: Origin,
    /// Empty, and removed after the run.
    pub(crate) scratch: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Plain,
    Slow,
    /// The origin alone.
    Tls,
    /// The sink as well.
    TlsBoth,
}

/// Where a contender leaves what it has carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    InSink,
    /// In files of its own, below the scratch folder.
    InScratch,
}

/// A way to bring files of an origin into a bucket.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Programs that have to be there.
    pub(crate) needs: &'static [&'static str],
    pub(crate) is_ours: bool,
    pub(crate) keeps: Keeps,
    /// `None` where it has nothing to show.
    pub(crate) command: fn(&Case<'_>) -> anyhow::Result<Option<Command>>,
}

/// The engine first, then those it is compared with.
pub(crate) const ALL: &[Contender] = &[
    Contender {
        name: "harvester",
        needs: &[],
        is_ours: true,
        keeps: Keeps::InSink,
        command: harvester,
    },
    Contender {
        name: "harvester, into its embedded S3",
        needs: &[],
        is_ours: true,
        keeps: Keeps::InScratch,
        command: embedded,
    },
    Contender {
        name: "floor: bare relay, 4 connections, CRC64",
        needs: &[],
        is_ours: true,
        keeps: Keeps::InSink,
        command: floor,
    },
    Contender {
        name: "rclone copyurl",
        needs: &["rclone"],
        is_ours: false,
        keeps: Keeps::InSink,
        command: |case| single(case, rclone_copyurl(case, &[])),
    },
    Contender {
        name: "rclone copyurl, one PUT",
        needs: &["rclone"],
        is_ours: false,
        keeps: Keeps::InSink,
        command: |case| {
            let flags = ["--s3-upload-cutoff", "5G", "--s3-disable-checksum"];
            single(case, rclone_copyurl(case, &flags))
        },
    },
    Contender {
        name: "rclone copy :http:",
        needs: &["rclone"],
        is_ours: false,
        keeps: Keeps::InSink,
        command: rclone_copy,
    },
    Contender {
        name: "curl | aws s3 cp -",
        needs: &["curl", "aws"],
        is_ours: false,
        keeps: Keeps::InSink,
        command: |case| single(case, pipe(case, &aws(case), 1)),
    },
    Contender {
        name: "curl | s5cmd pipe",
        needs: &["curl", "s5cmd"],
        is_ours: false,
        keeps: Keeps::InSink,
        command: curl_s5cmd,
    },
    Contender {
        name: "aria2c, then s5cmd cp",
        needs: &["aria2c", "s5cmd"],
        is_ours: false,
        keeps: Keeps::InSink,
        command: aria2,
    },
];

impl Case<'_> {
    pub(crate) fn origin(&self) -> String {
        match self.origin {
            Origin::Plain => format!("http://{}", self.stage.plain),
            Origin::Slow => format!("http://{}", self.stage.slow),
            Origin::Tls | Origin::TlsBoth => {
                format!("https://localhost:{}", self.stage.tls.port())
            }
        }
    }

    pub(crate) fn sink(&self) -> String {
        match self.origin {
            Origin::TlsBoth => format!("https://localhost:{}", self.stage.tls_sink.port()),
            _ => format!("http://{}", self.stage.sink.address),
        }
    }

    fn url(&self) -> String {
        format!("{}/{}", self.origin(), self.names[0])
    }

    /// A command that knows the bucket's key and whom to trust, and nothing else of this machine.
    fn with_environment(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("AWS_ACCESS_KEY_ID", "bench")
            .env("AWS_SECRET_ACCESS_KEY", "bench-secret")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", self.scratch.join("no-config"))
            .env("RCLONE_CONFIG", self.scratch.join("no-config"))
            .env("SSL_CERT_FILE", self.stage.authority())
            .env("AWS_CA_BUNDLE", self.stage.authority())
            .env("CURL_CA_BUNDLE", self.stage.authority());
        for name in [
            "http_proxy",
            "https_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "all_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = self.with_environment("bash");
        command.args(["-c", &format!("set -euo pipefail; {script}")]);
        command
    }

    fn list(&self, prefix: &str) -> anyhow::Result<PathBuf> {
        let path = self.scratch.join("list");
        let lines: String = self
            .names
            .iter()
            .map(|name| format!("{prefix}{name}\n"))
            .collect();
        fs::write(&path, lines)?;
        Ok(path)
    }
}

type Made = anyhow::Result<Option<Command>>;

fn single(case: &Case<'_>, command: Command) -> Made {
    Ok((case.names.len() == 1).then_some(command))
}

fn harvester(case: &Case<'_>) -> Made {
    // As the others carry them: some files that belong together.
    let list = shown(&case.list(&format!("{}/", case.origin()))?);
    archive(case, &["--recording", "bench", &list])
}

/// With no bucket configured; what it stores is in memory, as the origin's files are. Of a huge file there is no room.
fn embedded(case: &Case<'_>) -> Made {
    if case.origin != Origin::Plain || case.size > 4 << 30 {
        return Ok(None);
    }
    let Some(mut command) = harvester(case)? else {
        return Ok(None);
    };
    command
        .env_remove("HARVESTER_ARCHIVE__BUCKET")
        .env_remove("HARVESTER_ARCHIVE__ENDPOINT")
        .env("HARVESTER_ARCHIVE__EMBEDDED_LISTEN", "127.0.0.1:0");
    Ok(Some(command))
}

/// The program on these inputs, telling what it tells by itself: no other contender writes a document a file.
pub(crate) fn archive(case: &Case<'_>, inputs: &[&str]) -> Made {
    let mut command = case.with_environment(env!("CARGO_BIN_EXE_harvester"));
    command
        .env("HARVESTER_DATA_DIR", case.scratch.join("data"))
        .env("HARVESTER_ARCHIVE__BUCKET", "bench")
        .env("HARVESTER_ARCHIVE__ENDPOINT", case.sink())
        .env("HARVESTER_GUARD__ALLOW_NETWORKS", "127.0.0.0/8,::1/128")
        .env("HARVESTER_GUARD__ALLOW_HTTP", "true")
        .arg("archive")
        .args(inputs);
    Ok(Some(command))
}

fn floor(case: &Case<'_>) -> Made {
    let is_list = case.names.len() > 1;
    if (is_list && case.size > SMALL_BYTES) || matches!(case.origin, Origin::Tls | Origin::TlsBoth)
    {
        return Ok(None);
    }
    let mut command = Command::new(std::env::current_exe()?);
    let origin = match case.origin {
        Origin::Slow => case.stage.slow,
        _ => case.stage.plain,
    };
    command
        .arg(if is_list { "floor-all" } else { "floor" })
        .args([origin, case.stage.sink.address].map(|address: SocketAddr| address.to_string()));
    match is_list {
        true => command.arg(case.list("")?),
        false => command.arg(&case.names[0]),
    };
    Ok(Some(command))
}

fn rclone(case: &Case<'_>) -> Command {
    let mut command = case.with_environment("rclone");
    // Its SDK refuses this one; it finds the authority in SSL_CERT_FILE.
    command.env_remove("AWS_CA_BUNDLE");
    command.args([
        "--s3-provider",
        "Other",
        "--s3-env-auth",
        "--s3-force-path-style",
    ]);
    command.args(["--s3-no-check-bucket", "--s3-endpoint", &case.sink()]);
    command
}

fn rclone_copyurl(case: &Case<'_>, flags: &[&str]) -> Command {
    let mut command = rclone(case);
    let to = format!(":s3:bench/{}", case.names[0]);
    command.args(flags).args(["copyurl", &case.url(), &to]);
    command
}

pub(crate) fn rclone_copy(case: &Case<'_>) -> Made {
    let mut command = rclone(case);
    command
        .args([
            "copy",
            "--no-traverse",
            "--no-check-dest",
            "--transfers",
            "16",
        ])
        .args([
            "--checkers",
            "16",
            "--http-url",
            &format!("{}/", case.origin()),
        ])
        .arg("--files-from-raw")
        .arg(case.list("")?)
        .args([":http:", ":s3:bench"]);
    Ok(Some(command))
}

fn aws(case: &Case<'_>) -> String {
    format!(
        "aws --endpoint-url {} s3 cp --only-show-errors --expected-size {} - s3://bench/\"$1\"",
        case.sink(),
        case.size
    )
}

/// `curl` into `upload`, for each name in `$1`, so many at once.
fn pipe(case: &Case<'_>, upload: &str, at_once: usize) -> Command {
    let one = format!(
        "set -o pipefail; curl -sS {}/\"$1\" | {upload}",
        case.origin()
    );
    let names = case.names.join("\\n");
    case.shell(&format!(
        "printf '{names}\\n' | xargs -P {at_once} -n 1 bash -c '{one}' pipe"
    ))
}

/// A process for each object is out of the question for thousands.
fn curl_s5cmd(case: &Case<'_>) -> Made {
    if case.names.len() > 100 {
        return Ok(None);
    }
    let upload = format!(
        "s5cmd --log error --endpoint-url {} pipe s3://bench/\"$1\"",
        case.sink()
    );
    Ok(Some(pipe(case, &upload, 8)))
}

fn aria2(case: &Case<'_>) -> Made {
    let list = case.list(&format!("{}/", case.origin()))?;
    let folder = case.scratch.join("aria2");
    let (at_once, authority) = (16, case.stage.authority());
    Ok(Some(case.shell(&format!(
        "aria2c -q -x16 -s16 -k1M -j{at_once} --file-allocation=none --ca-certificate={} -d {folder} -i {}; \
         s5cmd --log error --endpoint-url {} cp '{folder}/*' s3://bench/",
        shown(&authority),
        shown(&list),
        case.sink(),
        folder = shown(&folder),
    ))))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
