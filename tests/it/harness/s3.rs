//! The tests' S3: the embedded server in a temporary folder, behind a proxy that misbehaves on script.
//!
//! The proxy passes heads on unchanged, so that signatures stay valid: the client signs for the proxy's
//! address, and the server behind accepts any loopback `Host`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::stores::StoreKind;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, ResponseChecksumValidation};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use recording_harvester::clock::SystemClock;
use recording_harvester::object::embedded::{Abilities, EmbeddedS3, EmbeddedSettings};
use recording_harvester::object::s3::{S3Settings, S3Store, StaticCredentials};
use recording_harvester::object::{ListedUpload, ObjectStore, Payload};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The bucket that is there.
pub const BUCKET: &str = "recordings";

/// An S3 operation, as the proxy tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    PutObject,
    CreateUpload,
    UploadPart,
    ListParts,
    Complete,
    Abort,
    HeadObject,
    GetObject,
    DeleteObject,
    ListUploads,
    ListObjects,
    HeadBucket,
    Other,
}

/// How a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 503 with the code SlowDown and `Retry-After: 1`; nothing is executed.
    SlowDown,
    /// 500; nothing is executed.
    InternalError,
    /// 403; nothing is executed.
    AccessDenied,
    /// 404; nothing is executed.
    NoSuchBucket,
    /// 400: the session's credentials have run out; nothing is executed.
    ExpiredToken,
    /// 409: another conditional write is on its way; nothing is executed.
    Conflict,
    /// 400 with this code; nothing is executed.
    Refused(&'static str),
    /// 403 with this code; nothing is executed.
    Forbidden(&'static str),
    /// 400: the store found another checksum; nothing is executed.
    BadDigest,
    /// 200 with an error document; nothing is executed.
    ErrorIn200,
    /// The connection ends before the store hears of the request.
    ResetBefore,
    /// The store executes the request; the connection ends before the answer.
    ResetAfter,
    /// The store executes the request; half of the answer's body arrives, as a whole.
    CutXml,
    /// No answer ever; nothing is executed.
    Stall,
    /// Waits until the script is healed, then goes through.
    Held,
    /// The upload is aborted behind the caller's back, then the request goes through.
    AbortedUpload,
    /// 501 if the request has a condition, as from a store that knows none; else it goes through.
    NoConditions,
    /// 400 if the request has a CRC64NVME, as from a store that knows none; else it goes through.
    NoCrc64,
    /// A byte of the request's body is another one when it arrives.
    FlippedByte,
    /// The request goes through; the answer shows this CRC64NVME, or none.
    ShownCrc64(Option<&'static str>),
    /// The request goes through; the answer shows this ETag.
    ShownEtag(&'static str),
    /// 400 InvalidPart for the first upload that is completed, whatever its parts: the store has lost its way in it.
    /// Requests about other uploads go through.
    BrokenUpload,
    /// The request goes through; that nothing is there is answered 403, as to who may not list the bucket.
    HidesMissing,
    /// The request goes through as if nothing were there: what is goes, whatever condition the request has.
    Overwrites,
}

/// A scripted fault: lets `after` requests of the operation pass, then spoils `times` of them.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub op: Op,
    pub after: usize,
    pub times: usize,
    pub kind: Kind,
    /// Only keys that end so.
    pub key_end: &'static str,
}

impl Fault {
    /// The next request of `op`, once.
    pub fn once(op: Op, kind: Kind) -> Fault {
        Fault::times(op, 1, kind)
    }

    /// The next requests of `op`. The SDK itself sends a failed request twice.
    pub fn times(op: Op, times: usize, kind: Kind) -> Fault {
        Fault {
            op,
            after: 0,
            times,
            kind,
            key_end: "",
        }
    }

    /// The same for keys that end so.
    pub fn of(self, key_end: &'static str) -> Fault {
        Fault { key_end, ..self }
    }

    /// Every request of `op` from now on.
    pub fn always(op: Op, kind: Kind) -> Fault {
        Fault::times(op, usize::MAX, kind)
    }
}

/// A request that reached the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub op: Op,
    pub key: String,
    pub part: Option<u32>,
    pub upload_id: Option<String>,
    /// How the object is to be stored: the headers that an upload may have, in lower case.
    pub options: BTreeMap<String, String>,
}

#[derive(Default)]
struct Script {
    faults: Vec<Fault>,
    seen: Vec<Seen>,
    broken_upload: Option<String>,
    healings: watch::Sender<u32>,
}

impl Script {
    fn note(&mut self, seen: Seen) -> Option<Kind> {
        let op = seen.op;
        let upload_id = seen.upload_id.clone().unwrap_or_default();
        let key = seen.key.clone();
        self.seen.push(seen);
        let mut faults = self.faults.iter_mut();
        let fault = faults
            .find(|fault| fault.op == op && fault.times > 0 && key.ends_with(fault.key_end))?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        let is_met = fault.kind != Kind::BrokenUpload
            || *self.broken_upload.get_or_insert(upload_id.clone()) == upload_id;
        if !is_met {
            return None;
        }
        fault.times = fault.times.saturating_sub(1);
        Some(fault.kind)
    }
}

/// A bucket that misbehaves on script. Stops when dropped.
pub struct TestS3 {
    server: Option<EmbeddedS3>,
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    folder: TempDir,
    _proxy: JoinSet<()>,
}

impl TestS3 {
    /// An empty bucket of the kind of store that this run of the tests is about.
    pub async fn start() -> TestS3 {
        TestS3::of_kind(StoreKind::of_this_run()).await
    }

    /// An empty bucket of a store of this kind.
    pub async fn of_kind(kind: StoreKind) -> TestS3 {
        let folder = tempfile::tempdir().unwrap();
        let server = start_server(folder.path(), kind.abilities()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Mutex<Script>> = Arc::default();
        let backend = Backend {
            address: server.address(),
            store: direct_store(&server).await,
        };
        let mut proxy = JoinSet::new();
        proxy.spawn(serve(listener, Arc::new(backend), Arc::clone(&script)));
        TestS3 {
            server: Some(server),
            address,
            script,
            folder,
            _proxy: proxy,
        }
    }

    /// Adds a fault to the script.
    pub fn fail(&self, fault: Fault) {
        self.script.lock().unwrap().faults.push(fault);
    }

    /// Takes the right s3:ListBucket away: nobody may look at the bucket, or learn that an object is not there.
    pub fn forbid_listing(&self) {
        for op in [Op::HeadBucket, Op::ListObjects] {
            self.fail(Fault::always(op, Kind::AccessDenied));
        }
        for op in [Op::HeadObject, Op::GetObject] {
            self.fail(Fault::always(op, Kind::HidesMissing));
        }
    }

    /// Forgets the faults that have not happened.
    pub fn heal(&self) {
        let mut script = self.script.lock().unwrap();
        script.faults.clear();
        script.healings.send_modify(|count| *count += 1);
    }

    /// Whether every fault has happened as often as it was to.
    pub fn is_script_played(&self) -> bool {
        let script = self.script.lock().unwrap();
        script.faults.iter().all(|fault| fault.times == 0)
    }

    /// What has reached the proxy, in order. The SDK's own retries are there too.
    pub fn requests(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    /// Forgets what has reached the proxy until now.
    pub fn forget_requests(&self) {
        self.script.lock().unwrap().seen.clear();
    }

    /// How many requests of `op` have reached the proxy.
    pub fn count(&self, op: Op) -> usize {
        let requests = self.requests();
        requests.iter().filter(|seen| seen.op == op).count()
    }

    /// Waits until so many requests of `op` have reached the proxy.
    pub async fn wait_for(&self, op: Op, count: usize) {
        let enough = async {
            while self.count(op) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), enough)
            .await
            .unwrap_or_else(|_| panic!("{count} requests of {op:?} never came"));
    }

    /// The proxy's URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn credentials(&self) -> StaticCredentials {
        self.server().credentials()
    }

    /// The server's folder: content lies under `BUCKET` in it, `credentials` is the AWS profile file.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// How to reach the bucket through the proxy.
    pub fn settings(&self) -> S3Settings {
        S3Settings {
            endpoint: Some(self.endpoint()),
            ..direct_settings(self.server())
        }
    }

    /// The bucket as the harvester sees it, through the proxy. An answer that takes 5 s has failed.
    pub async fn store(&self) -> Arc<dyn ObjectStore> {
        self.store_within(Duration::from_secs(5)).await
    }

    /// The same with another limit for an attempt.
    pub async fn store_within(&self, limit: Duration) -> Arc<dyn ObjectStore> {
        let store = S3Store::connect(self.settings()).await.unwrap();
        Arc::new(store.with_attempt_limit(limit))
    }

    /// The same bucket past the proxy.
    pub async fn behind(&self) -> S3Store {
        direct_store(self.server()).await
    }

    /// An object's bytes, read through the S3 API past the proxy.
    pub async fn object(&self, key: &str) -> Option<Vec<u8>> {
        let got = self.client().get_object().bucket(BUCKET).key(key).send();
        match got.await {
            Ok(object) => Some(object.body.collect().await.unwrap().to_vec()),
            Err(error) => {
                let error = error.into_service_error();
                assert!(error.is_no_such_key(), "{error:?}");
                None
            }
        }
    }

    /// All keys in order.
    pub async fn keys(&self) -> Vec<String> {
        let client = self.client();
        let mut pages = client
            .list_objects_v2()
            .bucket(BUCKET)
            .into_paginator()
            .send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let objects = page.unwrap().contents.unwrap_or_default();
            keys.extend(objects.into_iter().filter_map(|object| object.key));
        }
        keys
    }

    /// Uploads that have not ended.
    pub async fn open_uploads(&self) -> Vec<ListedUpload> {
        self.behind().await.list_uploads("").await.unwrap()
    }

    /// The SDK's client, straight to the server: for what `ObjectStore` can't do.
    pub fn client(&self) -> aws_sdk_s3::Client {
        raw_client(&self.server().endpoint(), &self.credentials())
    }

    /// Stops the server and gives its folder, in which another may start.
    pub async fn stop(mut self) -> TempDir {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        self.folder
    }

    fn server(&self) -> &EmbeddedS3 {
        self.server.as_ref().expect("it runs until it is stopped")
    }
}

fn names_crc64(headers: &http::HeaderMap) -> bool {
    headers
        .iter()
        .any(|(name, value)| name == "x-amz-checksum-crc64nvme" || value == "CRC64NVME")
}

/// A server without a proxy in `root`.
pub async fn start_embedded(root: &Path) -> EmbeddedS3 {
    start_server(root, Abilities::default()).await
}

async fn start_server(root: &Path, abilities: Abilities) -> EmbeddedS3 {
    let settings = EmbeddedSettings {
        root: root.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        bucket: BUCKET.to_owned(),
        abilities,
    };
    EmbeddedS3::start(settings, Arc::new(SystemClock))
        .await
        .unwrap()
}

/// How to reach a server without a proxy.
pub fn direct_settings(server: &EmbeddedS3) -> S3Settings {
    S3Settings {
        bucket: BUCKET.to_owned(),
        region: None,
        endpoint: Some(server.endpoint()),
        path_style: true,
        credentials: Some(server.credentials()),
        slowest_bytes_per_second: 1 << 20,
    }
}

pub async fn direct_store(server: &EmbeddedS3) -> S3Store {
    S3Store::connect(direct_settings(server)).await.unwrap()
}

/// The SDK's client for any endpoint.
pub fn raw_client(endpoint: &str, credentials: &StaticCredentials) -> aws_sdk_s3::Client {
    let credentials = Credentials::new(
        &credentials.access_key,
        credentials.secret_key.expose_secret(),
        None,
        None,
        "test",
    );
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .force_path_style(true)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

/// Bytes as a payload, in chunks as a network would bring them.
pub fn payload(bytes: &[u8]) -> Payload {
    let chunks = bytes
        .chunks(64 * 1024)
        .map(Bytes::copy_from_slice)
        .collect();
    Payload {
        chunks: Arc::new(chunks),
        size_bytes: bytes.len() as u64,
        crc64nvme: crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes),
    }
}

struct Backend {
    address: SocketAddr,
    store: S3Store,
}

async fn serve(listener: TcpListener, backend: Arc<Backend>, script: Arc<Mutex<Script>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (backend, script) = (Arc::clone(&backend), Arc::clone(&script));
        connections.spawn(async move {
            let answer = service_fn(async |request| {
                let response = answer(request, &backend, &script).await;
                response.map(|response| response.map(Full::new))
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer);
            // A broken connection is what some faults are about.
            let _ = serving.await;
        });
    }
}

/// An error ends the connection without an answer.
async fn answer(
    request: Request<Incoming>,
    backend: &Backend,
    script: &Mutex<Script>,
) -> io::Result<Response<Bytes>> {
    let seen = recognise(&request);
    let (kind, mut healings) = {
        let mut script = script.lock().unwrap();
        (script.note(seen.clone()), script.healings.subscribe())
    };
    let (head, body) = request.into_parts();
    // Read first: a refusal that does not wait for the body reads as a broken pipe.
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let request = Request::from_parts(head, Full::new(body));
    match kind {
        None => forward(request, backend).await,
        Some(Kind::SlowDown) => Ok(slow_down()),
        Some(Kind::InternalError) => Ok(refusal(500, "InternalError")),
        Some(Kind::AccessDenied) => Ok(refusal(403, "AccessDenied")),
        Some(Kind::ExpiredToken) => Ok(refusal(400, "ExpiredToken")),
        Some(Kind::Conflict) => Ok(refusal(409, "ConditionalRequestConflict")),
        Some(Kind::Forbidden(code)) => Ok(refusal(403, code)),
        Some(Kind::Refused(code)) => Ok(refusal(400, code)),
        Some(Kind::NoSuchBucket) => Ok(refusal(404, "NoSuchBucket")),
        Some(Kind::BrokenUpload) => Ok(refusal(400, "InvalidPart")),
        Some(Kind::HidesMissing) => {
            let answer = forward(request, backend).await?;
            match answer.status() {
                StatusCode::NOT_FOUND => Ok(refusal(403, "AccessDenied")),
                _ => Ok(answer),
            }
        }
        Some(Kind::Overwrites) => {
            let there = backend.store.delete(&seen.key).await;
            there.map_err(io::Error::other)?;
            forward(request, backend).await
        }
        Some(Kind::BadDigest) => Ok(refusal(400, "BadDigest")),
        Some(Kind::ErrorIn200) => Ok(refusal(200, "InternalError")),
        Some(Kind::ResetBefore) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Kind::ResetAfter) => {
            forward(request, backend).await?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Some(Kind::CutXml) => forward(request, backend).await.map(cut),
        Some(Kind::Stall) => std::future::pending().await,
        Some(Kind::Held) => {
            healings.changed().await.map_err(io::Error::other)?;
            forward(request, backend).await
        }
        Some(Kind::NoConditions) => match request.headers().contains_key("if-none-match") {
            true => Ok(refusal(501, "NotImplemented")),
            false => forward(request, backend).await,
        },
        Some(Kind::NoCrc64) => match names_crc64(request.headers()) {
            true => Ok(refusal(400, "InvalidArgument")),
            false => forward(request, backend).await,
        },
        Some(Kind::FlippedByte) => {
            let (head, body) = request.into_parts();
            let mut bytes = body.collect().await.unwrap_or_default().to_bytes().to_vec();
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
            forward(Request::from_parts(head, Full::new(bytes.into())), backend).await
        }
        Some(Kind::ShownCrc64(shown)) => {
            let mut answer = forward(request, backend).await?;
            let name = "x-amz-checksum-crc64nvme";
            answer.headers_mut().remove(name);
            if let Some(shown) = shown {
                let shown = HeaderValue::from_static(shown);
                answer.headers_mut().insert(name, shown);
            }
            Ok(answer)
        }
        Some(Kind::ShownEtag(shown)) => {
            let mut answer = forward(request, backend).await?;
            let shown = HeaderValue::from_static(shown);
            answer.headers_mut().insert("etag", shown);
            Ok(answer)
        }
        Some(Kind::AbortedUpload) => {
            let id = seen.upload_id.unwrap_or_default();
            backend
                .store
                .abort(&seen.key, &id)
                .await
                .map_err(io::Error::other)?;
            forward(request, backend).await
        }
    }
}

async fn forward(request: Request<Full<Bytes>>, backend: &Backend) -> io::Result<Response<Bytes>> {
    let stream = TcpStream::connect(backend.address).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let mut connection = std::pin::pin!(connection);
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        response = exchange.as_mut() => response,
        _ = connection.as_mut() => exchange.await,
    }
}

fn recognise(request: &Request<Incoming>) -> Seen {
    let path = request.uri().path().trim_start_matches('/');
    let (_, key) = path.split_once('/').unwrap_or((path, ""));
    let query = request.uri().query().unwrap_or_default();
    let value = |name: &str| {
        let pairs = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut named = pairs.filter(|(key, _)| *key == name);
        named.next().map(|(_, value)| value.to_owned())
    };
    let has = |name: &str| value(name).is_some();
    let op = match (request.method(), key.is_empty()) {
        (&Method::HEAD, true) => Op::HeadBucket,
        (&Method::GET, true) if has("uploads") => Op::ListUploads,
        (&Method::GET, true) if has("list-type") => Op::ListObjects,
        (&Method::HEAD, false) => Op::HeadObject,
        (&Method::GET, false) if has("uploadId") => Op::ListParts,
        (&Method::GET, false) => Op::GetObject,
        (&Method::PUT, false) if has("partNumber") => Op::UploadPart,
        (&Method::PUT, false) => Op::PutObject,
        (&Method::POST, false) if has("uploads") => Op::CreateUpload,
        (&Method::POST, false) if has("uploadId") => Op::Complete,
        (&Method::DELETE, false) if has("uploadId") => Op::Abort,
        (&Method::DELETE, false) => Op::DeleteObject,
        _ => Op::Other,
    };
    Seen {
        op,
        key: percent_encoding::percent_decode_str(key)
            .decode_utf8_lossy()
            .into_owned(),
        part: value("partNumber").and_then(|number| number.parse().ok()),
        upload_id: value("uploadId"),
        options: options(request.headers()),
    }
}

fn options(headers: &http::HeaderMap) -> BTreeMap<String, String> {
    let is_option = |name: &str| {
        let tail = name.strip_prefix("x-amz-").unwrap_or_default();
        name == "content-disposition"
            || ["storage-class", "server-side", "tagging", "object-lock"]
                .iter()
                .any(|option| tail.starts_with(option))
    };
    let named = headers.iter().filter(|(name, _)| is_option(name.as_str()));
    named
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect()
}

fn refusal(status: u16, code: &str) -> Response<Bytes> {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>scripted</Message></Error>"
    );
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", "application/xml")
        .body(Bytes::from(document))
        .unwrap()
}

fn slow_down() -> Response<Bytes> {
    let mut response = refusal(503, "SlowDown");
    response
        .headers_mut()
        .insert("retry-after", "1".parse().unwrap());
    response
}

fn cut(response: Response<Bytes>) -> Response<Bytes> {
    let (mut head, body) = response.into_parts();
    let half = body.slice(..body.len() / 2);
    head.headers.insert("content-length", half.len().into());
    Response::from_parts(head, half)
}
