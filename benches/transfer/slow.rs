//! An origin as many CDNs are: every request waits, and every connection has its own narrow pipe.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::http1::{Connection, Head};

/// What a connection gives: 8 MiB a second.
pub(crate) const BYTES_PER_SECOND: u64 = 8 << 20;

/// From a request to the head of its answer.
pub(crate) const DELAY: Duration = Duration::from_millis(40);

/// Written at once: 4 ms of the rate.
const STEP_BYTES: usize = 32 * 1024;

/// Serves `folder` on loopback, a thread for each connection.
pub(crate) fn start(folder: &Path) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || serve(stream, &folder));
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream, folder: &Path) -> io::Result<()> {
    let mut connection = Connection::new(stream)?;
    while let Some(head) = connection.head()? {
        std::thread::sleep(DELAY);
        let name = head.path.trim_start_matches('/');
        match File::open(folder.join(name)) {
            Ok(file) => send(&mut connection, &head, &file)?,
            Err(_) => {
                connection.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?
            }
        }
    }
    Ok(())
}

fn send(connection: &mut Connection, head: &Head, file: &File) -> io::Result<()> {
    let size = file.metadata()?.len();
    let range = head.header("range").and_then(|range| parse(range, size));
    let (start, end) = range.unwrap_or((0, size));
    let (status, content_range) = match range {
        Some(_) => (
            "206 Partial Content",
            format!("content-range: bytes {start}-{}/{size}\r\n", end - 1),
        ),
        None => ("200 OK", String::new()),
    };
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: video/mp4\r\naccept-ranges: bytes\r\netag: \"slow-{size}\"\r\n\
         last-modified: Mon, 02 Mar 2026 10:00:00 GMT\r\n{content_range}content-length: {}\r\n\r\n",
        end - start
    );
    connection.write_all(text.as_bytes())?;
    if head.method == "HEAD" {
        return Ok(());
    }
    let begun = Instant::now();
    let mut buffer = vec![0; STEP_BYTES];
    let mut at = start;
    while at < end {
        let room = STEP_BYTES.min((end - at) as usize);
        file.read_exact_at(&mut buffer[..room], at)?;
        connection.write_all(&buffer[..room])?;
        at += room as u64;
        let due = Duration::from_secs_f64((at - start) as f64 / BYTES_PER_SECOND as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

/// `bytes=a-b` or `bytes=a-`, the end exclusive.
fn parse(range: &str, size: u64) -> Option<(u64, u64)> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let start: u64 = start.parse().ok()?;
    let end = match end {
        "" => size,
        end => end.parse::<u64>().ok()?.saturating_add(1).min(size),
    };
    (start < end).then_some((start, end))
}
