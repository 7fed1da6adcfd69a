//! The floor: the least that a relay can do. Four threads, each with a connection to either side, move ranges
//! of the origin into parts, or small files one after the other, and compute their CRC64NVME in passing. It checks
//! nothing and survives nothing.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use anyhow::{Context, ensure};

use super::http1::Connection;

const LANES: usize = 4;
const PART_BYTES: u64 = 16 << 20;

/// Carries `name` from one to the other.
pub(crate) fn relay(origin: SocketAddr, sink: SocketAddr, name: &str) -> anyhow::Result<()> {
    let mut to = connect(sink)?;
    to.write_all(
        format!("POST /bench/{name}?uploads HTTP/1.1\r\nhost: {sink}\r\ncontent-length: 0\r\n\r\n")
            .as_bytes(),
    )?;
    let answer = to.head()?.context("the sink hung up")?;
    let text = String::from_utf8(to.take_body(&answer, answer.length())?)?;
    let id = text
        .split("<UploadId>")
        .nth(1)
        .and_then(|rest| rest.split('<').next())
        .context("the sink gave no upload id")?;
    let mut from = connect(origin)?;
    from.write_all(format!("HEAD /{name} HTTP/1.1\r\nhost: {origin}\r\n\r\n").as_bytes())?;
    let length = from.head()?.context("the origin hung up")?.length();
    let next = AtomicU32::new(0);
    let path = format!("/bench/{name}?uploadId={id}");
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|_| scope.spawn(|| lane(origin, sink, name, &path, length, &next)))
            .collect();
        lanes.into_iter().try_for_each(|lane| {
            lane.join()
                .map_err(|_| anyhow::anyhow!("a lane panicked"))?
        })
    })?;
    to.write_all(
        format!("POST {path} HTTP/1.1\r\nhost: {sink}\r\ncontent-length: 0\r\n\r\n").as_bytes(),
    )?;
    let answer = to.head()?.context("the sink hung up")?;
    to.take_body(&answer, 0)?;
    ensure!(answer.path == "200", "the sink refused: {}", answer.path);
    Ok(())
}

fn lane(
    origin: SocketAddr,
    sink: SocketAddr,
    name: &str,
    path: &str,
    length: u64,
    next: &AtomicU32,
) -> anyhow::Result<()> {
    let (mut from, mut to) = (connect(origin)?, connect(sink)?);
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    loop {
        let part = next.fetch_add(1, Ordering::Relaxed);
        let start = u64::from(part) * PART_BYTES;
        if start >= length {
            std::hint::black_box(digest.finalize());
            return Ok(());
        }
        let end = length.min(start + PART_BYTES);
        from.write_all(
            format!(
                "GET /{name} HTTP/1.1\r\nhost: {origin}\r\nrange: bytes={start}-{}\r\n\r\n",
                end - 1
            )
            .as_bytes(),
        )?;
        let answer = from.head()?.context("the origin hung up")?;
        ensure!(answer.path == "206", "the origin answers {}", answer.path);
        to.write_all(
            format!(
                "PUT {path}&partNumber={} HTTP/1.1\r\nhost: {sink}\r\ncontent-length: {}\r\n\r\n",
                part + 1,
                end - start
            )
            .as_bytes(),
        )?;
        from.read_exactly(end - start, &mut |bytes| {
            digest.update(bytes);
            to.write_all(bytes)
        })?;
        let answer = to.head()?.context("the sink hung up")?;
        to.take_body(&answer, 0)?;
        ensure!(answer.path == "200", "the sink refused: {}", answer.path);
    }
}

/// Carries the small files that `list` names, a line each: GET, PUT and the HEAD that would prove it.
pub(crate) fn relay_all(origin: SocketAddr, sink: SocketAddr, list: &Path) -> anyhow::Result<()> {
    let list = fs::read_to_string(list)?;
    let names: Vec<_> = list.lines().collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|_| scope.spawn(|| files(origin, sink, &names, &next)))
            .collect();
        lanes.into_iter().try_for_each(|lane| {
            lane.join()
                .map_err(|_| anyhow::anyhow!("a lane panicked"))?
        })
    })
}

fn files(
    origin: SocketAddr,
    sink: SocketAddr,
    names: &[&str],
    next: &AtomicUsize,
) -> anyhow::Result<()> {
    let (mut from, mut to) = (connect(origin)?, connect(sink)?);
    while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
        from.write_all(format!("GET /{name} HTTP/1.1\r\nhost: {origin}\r\n\r\n").as_bytes())?;
        let answer = from.head()?.context("the origin hung up")?;
        ensure!(answer.path == "200", "the origin answers {}", answer.path);
        let content = from.take_body(&answer, answer.length())?;
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        digest.update(&content);
        std::hint::black_box(digest.finalize());
        let length = content.len();
        to.write_all(
            format!(
                "PUT /bench/{name} HTTP/1.1\r\nhost: {sink}\r\ncontent-length: {length}\r\n\r\n"
            )
            .as_bytes(),
        )?;
        to.write_all(&content)?;
        let answer = to.head()?.context("the sink hung up")?;
        to.take_body(&answer, 0)?;
        ensure!(answer.path == "200", "the sink refused: {}", answer.path);
        to.write_all(format!("HEAD /bench/{name} HTTP/1.1\r\nhost: {sink}\r\n\r\n").as_bytes())?;
        let answer = to.head()?.context("the sink hung up")?;
        ensure!(answer.path == "200", "the sink lost it: {}", answer.path);
    }
    Ok(())
}

fn connect(address: SocketAddr) -> anyhow::Result<Connection> {
    let stream = TcpStream::connect(address).context("connect")?;
    Ok(Connection::new(stream)?)
}
