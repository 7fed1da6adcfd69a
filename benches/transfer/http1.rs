//! As much HTTP/1.1 as the sink, the slow origin and the floor need.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Read at once: large enough that system calls don't count.
const BUFFER_BYTES: usize = 256 * 1024;

/// A head that is longer is no head.
const HEAD_BYTES: u64 = 64 * 1024;

/// The first lines of a request or an answer. Header names are lower case.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// Of a request; of an answer, `HTTP/1.1`.
    pub(crate) method: String,
    /// Of a request; of an answer, the status code.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn length(&self) -> u64 {
        let length = self.header("content-length");
        length.and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    /// The length without the frames of `aws-chunked`.
    pub(crate) fn decoded_length(&self) -> u64 {
        let length = self.header("x-amz-decoded-content-length");
        length
            .and_then(|length| length.parse().ok())
            .unwrap_or_else(|| self.length())
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding")
            .is_some_and(|value| value.contains("chunked"))
    }
}

/// One connection, seen from either side.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream: BufReader::with_capacity(16 * 1024, stream),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// The next head; `None` when the other side has hung up.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        let mut head = Head::default();
        let mut line = String::new();
        let mut lines = (&mut self.stream).take(HEAD_BYTES);
        if lines.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        head.method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        (head.path, head.query) = (path.to_owned(), query.to_owned());
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) => head
                    .headers
                    .push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => return Ok(Some(head)),
            }
        }
    }

    /// Reads the body that belongs to `head`, and keeps its first `kept` bytes.
    pub(crate) fn take_body(&mut self, head: &Head, kept: u64) -> io::Result<Vec<u8>> {
        if head.header("expect").is_some() {
            self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut document = Vec::new();
        let mut keep = |bytes: &[u8]| {
            let room = (kept as usize).saturating_sub(document.len());
            document.extend_from_slice(&bytes[..bytes.len().min(room)]);
            Ok(())
        };
        if !head.is_chunked() {
            self.read_exactly(head.length(), &mut keep)?;
            return Ok(document);
        }
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let size = line.trim().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            self.read_exactly(size, &mut keep)?;
            line.clear();
            if size > 0 {
                self.stream.read_line(&mut line)?;
                continue;
            }
            // Trailers, up to an empty line.
            while self.stream.read_line(&mut line)? > 2 {
                line.clear();
            }
            return Ok(document);
        }
    }

    /// Hands out the next `length` bytes piece by piece.
    pub(crate) fn read_exactly(
        &mut self,
        length: u64,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let room = self.buffer.len().min(left as usize);
            // More than the reader's own buffer goes past it.
            let count = self.stream.read(&mut self.buffer[..room])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            take(&self.buffer[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }
}
