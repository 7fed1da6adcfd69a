//! An origin on loopback that misbehaves on script.
//!
//! Raw TCP, since no HTTP library would agree to lie about a length or to cut a body in the middle.
//! Every answer closes its connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub const LAST_MODIFIED: &str = "Mon, 02 Mar 2026 10:33:20 GMT";

/// How the content is identified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validator {
    /// A strong ETag and a date.
    #[default]
    Strong,
    /// A weak ETag alone.
    Weak,
    /// Only Last-Modified.
    Date,
    None,
    /// A strong ETag that differs with each request.
    Changing,
}

/// What is done about a Range header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ranges {
    #[default]
    Honoured,
    /// A 200 with everything, although ranges are announced.
    Ignored,
    /// A 206 that begins a byte too early.
    WrongStart,
    /// A 206 whose total differs from the length told before.
    WrongTotal,
    /// A 206 with the right range of the wrong type.
    Multipart,
    /// Nothing is announced and nothing honoured.
    Unknown,
}

/// How the end of the body is marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    Length,
    Chunked,
    /// By the end of the connection alone.
    Close,
    /// A Content-Length that is not true.
    Lie(u64),
}

/// What goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// The connection ends after so many bytes of body.
    CutAfter(usize),
    /// It is reset then.
    ResetAfter(usize),
    /// Nothing more comes.
    StallAfter(usize),
    /// So many bytes a time, with this pause.
    Trickle(usize, Duration),
    /// Another status, with headers and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// A redirect.
    Redirect(String),
    /// Connection taken, request read, no answer.
    Hang,
    /// It is reset in the middle of the answer's head.
    ResetInHead,
    /// A 206 that nobody asked for.
    UnaskedPartial,
    /// Informational answers without end.
    EndlessHints,
}

/// One path's script.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub validator: Validator,
    pub ranges: Ranges,
    pub framing: Framing,
    pub fault: Fault,
    /// Requests that meet the fault; later ones are answered well.
    pub fault_times: u32,
    /// What the very first request meets instead.
    pub first: Option<Fault>,
    /// Requests that are answered before the URL counts as expired (S3's 403).
    pub valid_for_requests: Option<u32>,
    /// When it counts as expired: checked as a request begins, as S3 does.
    pub valid_until: Option<Instant>,
    /// The connection ends after so many bytes of body, whatever the fault: some front ends close after a fixed
    /// time.
    pub closed_after: Option<usize>,
    /// Requests beyond so many at once are refused (403), as some CDNs limit connections.
    pub most_at_once: Option<u32>,
    /// Any request without this in its query is refused (403).
    pub only_with_query: Option<String>,
    pub headers: Vec<(&'static str, String)>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            validator: Validator::Strong,
            ranges: Ranges::Honoured,
            framing: Framing::Length,
            fault: Fault::None,
            fault_times: u32::MAX,
            first: None,
            valid_for_requests: None,
            valid_until: None,
            closed_after: None,
            most_at_once: None,
            only_with_query: None,
            headers: Vec::new(),
        }
    }
}

impl Behaviour {
    /// Good but for this fault.
    pub fn fault(fault: Fault) -> Behaviour {
        Behaviour {
            fault,
            ..Behaviour::default()
        }
    }

    /// Good but for this fault in the first `times` requests.
    pub fn fault_at_first(times: u32, fault: Fault) -> Behaviour {
        Behaviour {
            fault_times: times,
            ..Behaviour::fault(fault)
        }
    }

    pub fn status(code: u16) -> Behaviour {
        Behaviour::fault(Fault::Status(code, Vec::new(), String::new()))
    }
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Path without query.
    pub path: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// When it was read.
    pub at: Instant,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether only the first byte was asked for, to know whether the file is still the same.
    pub fn is_for_a_byte(&self) -> bool {
        self.header("range") == Some("bytes=0-0")
    }
}

struct Page {
    bytes: Arc<Vec<u8>>,
    behaviour: Behaviour,
    requests: u32,
    /// Held by each request that is being answered.
    running: Arc<()>,
}

#[derive(Default)]
struct World {
    pages: HashMap<String, Page>,
    log: Vec<Seen>,
}

pub struct TestOrigin {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    _tasks: JoinSet<()>,
}

impl TestOrigin {
    pub async fn start() -> TestOrigin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, world.clone()));
        TestOrigin {
            address,
            world,
            _tasks: tasks,
        }
    }

    /// Serves `bytes` under `path`, which begins with a slash; forgets what was there. A path with a query is that query's
    /// alone.
    pub fn serve(&self, path: &str, bytes: impl Into<Vec<u8>>, behaviour: Behaviour) {
        self.serve_shared(path, Arc::new(bytes.into()), behaviour);
    }

    /// The same with bytes that other paths may share.
    pub fn serve_shared(&self, path: &str, bytes: Arc<Vec<u8>>, behaviour: Behaviour) {
        let page = Page {
            bytes,
            behaviour,
            requests: 0,
            running: Arc::default(),
        };
        let mut world = self.world.lock().unwrap();
        world.pages.insert(path.to_owned(), page);
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Requests so far, for any path.
    pub fn log(&self) -> Vec<Seen> {
        self.world.lock().unwrap().log.clone()
    }

    /// Requests for `path` so far.
    pub fn requests(&self, path: &str) -> Vec<Seen> {
        let mut log = self.log();
        log.retain(|seen| seen.path == path);
        log
    }
}

async fn accept(listener: TcpListener, world: Arc<Mutex<World>>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let world = world.clone();
        connections.spawn(async move {
            // A client that goes away is what half of the tests are about.
            let _ = serve(stream, &world).await;
        });
    }
}

async fn serve(mut stream: TcpStream, world: &Mutex<World>) -> std::io::Result<()> {
    let Some(seen) = read_request(&mut stream).await? else {
        return Ok(());
    };
    let page = {
        let mut world = world.lock().unwrap();
        world.log.push(seen.clone());
        let by_target = world.pages.contains_key(&seen.target);
        let path = if by_target { &seen.target } else { &seen.path };
        world.pages.get_mut(path).map(|page| {
            page.requests += 1;
            let running = page.running.clone();
            let at_once = u32::try_from(Arc::strong_count(&running)).unwrap() - 1;
            (
                page.bytes.clone(),
                page.behaviour.clone(),
                page.requests,
                (at_once, running),
            )
        })
    };
    let Some((bytes, behaviour, number, (at_once, _running))) = page else {
        return respond(&mut stream, "404 Not Found", &[], b"").await;
    };
    if let Some(needed) = &behaviour.only_with_query
        && !seen.target.contains(needed)
    {
        return respond(&mut stream, "403 Forbidden", &[], b"").await;
    }
    let is_expired = behaviour.valid_for_requests.is_some_and(|n| number > n)
        || behaviour
            .valid_until
            .is_some_and(|end| Instant::now() >= end);
    if is_expired {
        let body = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message>\
                    <Expires>2026-03-02T10:33:20Z</Expires></Error>";
        return respond(&mut stream, "403 Forbidden", &[], body.as_bytes()).await;
    }
    if behaviour.most_at_once.is_some_and(|most| at_once > most) {
        return respond(&mut stream, "403 Forbidden", &[], b"").await;
    }
    let fault = match &behaviour.first {
        Some(first) if number == 1 => first.clone(),
        _ if number <= behaviour.fault_times => behaviour.fault.clone(),
        _ => Fault::None,
    };
    match &fault {
        Fault::Hang => {
            // Until the client gives up.
            let _ = stream.read(&mut [0]).await;
            Ok(())
        }
        Fault::ResetInHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").await?;
            stream.flush().await?;
            stream.set_zero_linger()
        }
        Fault::EndlessHints => loop {
            stream
                .write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
                .await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
        Fault::Status(code, headers, body) => {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            respond(
                &mut stream,
                &format!("{code} Scripted"),
                &headers,
                body.as_bytes(),
            )
            .await
        }
        Fault::Redirect(to) => respond(&mut stream, "302 Found", &[("Location", to)], b"").await,
        _ => send(stream, &seen, &bytes, &behaviour, &fault, number).await,
    }
}

async fn send(
    mut stream: TcpStream,
    seen: &Seen,
    bytes: &[u8],
    behaviour: &Behaviour,
    fault: &Fault,
    number: u32,
) -> std::io::Result<()> {
    let etag = match behaviour.validator {
        Validator::Strong => Some("\"v1\"".to_owned()),
        Validator::Weak => Some("W/\"v1\"".to_owned()),
        Validator::Changing => Some(format!("\"v{number}\"")),
        Validator::Date | Validator::None => None,
    };
    let date =
        matches!(behaviour.validator, Validator::Strong | Validator::Date).then_some(LAST_MODIFIED);
    let if_range = seen.header("if-range");
    let is_same = if_range.is_none_or(|v| Some(v) == etag.as_deref() || Some(v) == date)
        || behaviour.validator == Validator::Changing;
    let total = bytes.len();
    let range = seen
        .header("range")
        .filter(|_| is_same && !matches!(behaviour.ranges, Ranges::Ignored | Ranges::Unknown))
        .and_then(|text| parse_range(text, total));
    if let Some((start, _)) = range
        && start >= total
    {
        let unsatisfied = format!("bytes */{total}");
        return respond(
            &mut stream,
            "416 Range Not Satisfiable",
            &[("Content-Range", &unsatisfied)],
            b"",
        )
        .await;
    }
    let (status, body, content_range) = match (range, behaviour.ranges) {
        (Some((start, end)), Ranges::WrongStart) => (
            "206 Partial Content",
            &bytes[start - 1..end],
            Some(format!("bytes {}-{}/{total}", start - 1, end - 1)),
        ),
        (Some((start, end)), Ranges::WrongTotal) => (
            "206 Partial Content",
            &bytes[start..end],
            Some(format!("bytes {start}-{}/{}", end - 1, total + 5)),
        ),
        (Some((start, end)), Ranges::Multipart) => {
            ("206 Partial Content", &bytes[start..end], None)
        }
        (Some((start, end)), _) => (
            "206 Partial Content",
            &bytes[start..end],
            Some(format!("bytes {start}-{}/{total}", end - 1)),
        ),
        (None, _) if *fault == Fault::UnaskedPartial => (
            "206 Partial Content",
            bytes,
            Some(format!("bytes 0-{}/{total}", total - 1)),
        ),
        (None, _) => ("200 OK", bytes, None),
    };
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in [
        ("ETag", etag.as_deref()),
        ("Last-Modified", date),
        ("Content-Range", content_range.as_deref()),
    ] {
        if let Some(value) = value {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if behaviour.ranges != Ranges::Unknown {
        head.push_str("Accept-Ranges: bytes\r\n");
    }
    for (name, value) in &behaviour.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match behaviour.framing {
        Framing::Length => head.push_str(&format!("Content-Length: {}\r\n", body.len())),
        Framing::Lie(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => {}
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;

    let is_chunked = behaviour.framing == Framing::Chunked;
    let sent = match *fault {
        Fault::CutAfter(n) | Fault::ResetAfter(n) | Fault::StallAfter(n) => {
            &body[..n.min(body.len())]
        }
        _ => body,
    };
    let open = behaviour.closed_after.unwrap_or(usize::MAX);
    let sent = &sent[..open.min(sent.len())];
    let piece = match *fault {
        Fault::Trickle(piece, _) => piece,
        _ => 64 * 1024,
    };
    for chunk in sent.chunks(piece) {
        if is_chunked {
            stream
                .write_all(format!("{:x}\r\n", chunk.len()).as_bytes())
                .await?;
        }
        stream.write_all(chunk).await?;
        if is_chunked {
            stream.write_all(b"\r\n").await?;
        }
        if let Fault::Trickle(_, pause) = fault {
            tokio::time::sleep(*pause).await;
        }
    }
    match fault {
        Fault::StallAfter(_) => {
            let _ = stream.read(&mut [0]).await;
            Ok(())
        }
        Fault::ResetAfter(_) => {
            stream.flush().await?;
            stream.set_zero_linger()
        }
        Fault::CutAfter(_) => stream.shutdown().await,
        _ => {
            if is_chunked {
                stream.write_all(b"0\r\n\r\n").await?;
            }
            stream.shutdown().await
        }
    }
}

async fn respond(
    stream: &mut TcpStream,
    status: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !status.starts_with("204") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<Seen>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 || head.len() > 64 * 1024 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.split("\r\n");
    let target = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .unwrap_or_default()
        .to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    Ok(Some(Seen {
        path,
        target,
        headers,
        at: Instant::now(),
    }))
}

/// Start and end (exclusive) of `bytes=5-9` or `bytes=5-`.
fn parse_range(text: &str, total: usize) -> Option<(usize, usize)> {
    let (start, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let start = start.parse().ok()?;
    let end = match last {
        "" => total,
        last => last.parse::<usize>().ok()?.saturating_add(1).min(total),
    };
    Some((start, end))
}
