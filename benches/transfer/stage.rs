//! What all contenders meet: files in memory, nginx in front of them, certificates, the slow origin and the sink.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::sink::Sink;
use super::slow;

/// Below it a file passes for a picture, as thumbnails are, instead of a video.
const PICTURE_BYTES: u64 = 1 << 20;

/// Above it a file has no content but its head.
const SPARSE_BYTES: u64 = 4 << 30;

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything around the contenders. Dropping it stops and removes all of it.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) sink: Sink,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) slow: SocketAddr,
    /// The sink behind TLS.
    pub(crate) tls_sink: SocketAddr,
    nginx: Child,
}

impl Stage {
    /// Builds it in memory when the system has a `/dev/shm`, so that no disk is measured.
    pub(crate) fn build() -> anyhow::Result<Stage> {
        let memory = Path::new("/dev/shm");
        let parent = match memory.is_dir() {
            true => memory.to_owned(),
            false => std::env::temp_dir(),
        };
        let folder = tempfile::Builder::new()
            .prefix("bench-transfer-")
            .tempdir_in(parent)?;
        let files = folder.path().join("files");
        fs::create_dir(&files)?;
        make_certificates(folder.path())?;
        let sink = Sink::start()?;
        let slow = slow::start(&files)?;
        let [plain, tls, tls_sink] = free_addresses()?;
        let config = nginx_config(folder.path(), plain, tls, tls_sink, sink.address);
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config)?;
        let nginx = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .arg("-p")
            .arg(folder.path())
            .stdin(Stdio::null())
            .spawn()
            .context("start nginx (Debian: nginx-light)")?;
        let stage = Stage {
            folder,
            sink,
            plain,
            tls,
            slow,
            tls_sink,
            nginx,
        };
        for address in [plain, tls, tls_sink] {
            wait_for(address)?;
        }
        Ok(stage)
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The folder that is served.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// Makes `count` names for a file of `size` bytes: videos, or pictures where they are small.
    pub(crate) fn add(&self, prefix: &str, count: u64, size: u64) -> anyhow::Result<Vec<String>> {
        let files = self.files();
        let content = files.join(format!("{prefix}-content"));
        let is_picture = size < PICTURE_BYTES;
        let (head, extension) = match is_picture {
            true => (b"\xff\xd8\xff\xe0".to_vec(), "jpg"),
            false => (video_head(size)?, "mp4"),
        };
        make_file(&content, &head, size)?;
        let names = (0..count).map(|number| format!("{prefix}-{number:05}.{extension}"));
        let names: Vec<_> = names.collect();
        for name in &names {
            symlink(&content, files.join(name))?;
        }
        Ok(names)
    }

    pub(crate) fn remove(&self, prefix: &str) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.files())? {
            let path = entry?.path();
            let is_ours = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix));
            match path.is_dir() {
                _ if !is_ours => {}
                true => fs::remove_dir_all(path)?,
                false => fs::remove_file(path)?,
            }
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The master takes its workers along on SIGTERM; SIGKILL would leave them.
        let id = self.nginx.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.nginx.wait();
    }
}

/// All are held at once, so that no two are the same.
fn free_addresses() -> anyhow::Result<[SocketAddr; 3]> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let held = [bind()?, bind()?, bind()?];
    let [first, second, third] = &held;
    Ok([
        first.local_addr()?,
        second.local_addr()?,
        third.local_addr()?,
    ])
}

fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(begun.elapsed() < START_TIMEOUT, "nginx does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn nginx_config(
    folder: &Path,
    plain: SocketAddr,
    tls: SocketAddr,
    tls_sink: SocketAddr,
    sink: SocketAddr,
) -> String {
    let at = folder.display();
    format!(
        "daemon off; worker_processes auto; pid {at}/nginx.pid; error_log {at}/nginx.log warn;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log off; sendfile on; sendfile_max_chunk 1m; tcp_nopush on; keepalive_requests 1000000;\n\
         types {{ video/mp4 mp4; image/jpeg jpg; video/mp2t ts; application/vnd.apple.mpegurl m3u8; }}\n\
         client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;\n\
         uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n\
         ssl_certificate {at}/leaf.pem; ssl_certificate_key {at}/leaf.key; ssl_protocols TLSv1.2 TLSv1.3;\n\
         server {{ listen {plain} backlog=4096; root {at}/files; }}\n\
         server {{ listen {tls} ssl backlog=4096; root {at}/files; }}\n\
         upstream sink {{ server {sink}; keepalive 64; }}\n\
         server {{ listen {tls_sink} ssl backlog=4096; client_max_body_size 0; location / {{\n\
         proxy_pass http://sink; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_request_buffering off;\n\
         client_body_buffer_size 256k; }} }}\n\
         }}\n"
    )
}

/// An authority of our own, which everyone is told to trust, and a certificate for loopback.
fn make_certificates(folder: &Path) -> anyhow::Result<()> {
    let script = "set -e; umask 077\n\
        openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj '/CN=bench authority' -keyout ca.key -out ca.pem\n\
        openssl req -newkey rsa:2048 -nodes -subj '/CN=localhost' -keyout leaf.key -out leaf.csr\n\
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\nextendedKeyUsage=serverAuth\\n' > leaf.ext\n\
        openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile leaf.ext -out leaf.pem\n\
        chmod 711 . && chmod 755 files";
    let made = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .output()?;
    if !made.status.success() {
        bail!(
            "make certificates: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
    Ok(())
}

/// What passes for the beginning of a video: `ftyp`, an empty `moov`, and the head of an `mdat` of noise.
fn video_head(size: u64) -> anyhow::Result<Vec<u8>> {
    const FTYP: &[u8] = b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2";
    const MOOV: &[u8] = b"\0\0\0\x08moov";
    let length = (FTYP.len() + MOOV.len()) as u64;
    ensure!(
        size > length + 16,
        "a video has at least {} bytes",
        length + 16
    );
    let mdat = (size - length).to_be_bytes();
    Ok([FTYP, MOOV, b"\0\0\0\x01mdat", &mdat].concat())
}

/// `head`, then noise, or nothing where that would be too much.
fn make_file(path: &Path, head: &[u8], size: u64) -> anyhow::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(head)?;
    let mut noise = fastrand::Rng::with_seed(1);
    let mut block = vec![0; 1 << 20];
    let mut left = size - head.len() as u64;
    // What does not fit into memory is a hole, which reads as zeros.
    if size > SPARSE_BYTES {
        file.flush()?;
        return Ok(file.get_ref().set_len(size)?);
    }
    while left > 0 {
        // One fresh block in memory again and again would stay in the CPU's cache.
        noise.fill(&mut block);
        let room = left.min(block.len() as u64);
        file.write_all(&block[..room as usize])?;
        left -= room;
    }
    Ok(file.flush()?)
}
