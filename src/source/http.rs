//! Opening an origin over HTTP.
//!
//! Redirects are followed by hand, each judged like a first request; of our headers only the range goes
//! along. An answer is accepted only if it is exactly what was asked for. A permit for the host is held
//! while a body lives, so that one slow origin can't take all connections to itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{ACCEPT_RANGES, CONTENT_TYPE, HeaderMap, HeaderName, TRANSFER_ENCODING};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpInfo;
use jiff::SignedDuration;
use secrecy::ExposeSecret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::answer;
use super::body::{self, DoorHold, LeastPace};
use super::client::{self, AddressRefused, OriginClient};
use super::guard::Guard;
use super::offsets::Offsets;
use super::request::{asking, header_value, redirect_target, unsendable};
use super::throttle::{Throttle, ThrottleSettings, throttled};
use super::{OpenRequest, Opened, Source, Waits};
use crate::clock::{SharedClock, SystemClock};
use crate::error::{Class, Error, Result};
use crate::model::api::{ApiRequest, ApiResponse, Method};
use crate::signed_url::SignedUrl;

/// Hops that a redirect chain may have.
const MAX_REDIRECTS: usize = 5;

/// How much of a refusal's body is read to see whether it speaks of expiry.
const HINT_BYTES: usize = 4 * 1024;

/// How long reading that may take.
const HINT_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer of a provider's API.
const API_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Hosts whose permits are remembered before idle ones are forgotten.
const REMEMBERED_HOSTS: usize = 1024;

/// How the source behaves.
#[derive(Clone)]
pub struct HttpSettings {
    /// Connections to one origin host at once.
    pub per_host: u32,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// How long an origin may take from the request to the head of its answer.
    pub head_timeout: Duration,
    /// The longest wait for a byte of a body, and the window of `min_rate`.
    pub stall_timeout: Duration,
    /// The lowest rate of a body over that window, in bytes per second.
    pub min_rate: u64,
    /// How long a whole API call may take.
    pub api_timeout: Duration,
    /// What all downloads together may take.
    pub throttle: ThrottleSettings,
    /// What time it is, for a Retry-After that is a date.
    pub clock: SharedClock,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            per_host: 16,
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            // 64 kbit/s is the slowest line that a recording may come over.
            min_rate: 1024,
            api_timeout: Duration::from_secs(30),
            throttle: ThrottleSettings::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// What to do where a host has all its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Join,
    Leave,
}

/// Opens origins over HTTP(S), through the guard.
pub struct HttpSource {
    guard: Arc<Guard>,
    settings: HttpSettings,
    throttle: Option<Arc<Throttle>>,
    origins: OriginClient,
    /// These two are seldom needed.
    wary_origins: OnceLock<OriginClient>,
    apis: OnceLock<reqwest::Client>,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    offsets: Offsets,
}

impl HttpSource {
    /// A source behind `guard`.
    ///
    /// # Errors
    /// `internal` when TLS can't be set up.
    pub fn new(guard: Arc<Guard>, settings: HttpSettings) -> Result<HttpSource> {
        let connect = settings.connect_timeout;
        Ok(HttpSource {
            origins: client::origin_client(guard.clone(), false, connect)?,
            wary_origins: OnceLock::new(),
            apis: OnceLock::new(),
            hosts: Mutex::new(HashMap::new()),
            throttle: Throttle::new(&settings.throttle, &settings.clock),
            offsets: Offsets::default(),
            guard,
            settings,
        })
    }

    fn wary_origins(&self) -> Result<&OriginClient> {
        let connect = self.settings.connect_timeout;
        made_once(&self.wary_origins, || {
            client::origin_client(self.guard.clone(), true, connect)
        })
    }

    fn apis(&self) -> Result<&reqwest::Client> {
        let (connect, whole) = (self.settings.connect_timeout, self.settings.api_timeout);
        made_once(&self.apis, || {
            client::api_client(self.guard.clone(), connect, whole)
        })
    }

    /// Opens what the last hop answers; `None` when there is no permit for one of the hosts and it is not
    /// to be waited for.
    async fn follow(&self, request: &OpenRequest, queue: Queue) -> Result<Option<Opened>> {
        if let Some(throttle) = &self.throttle {
            throttle.admit()?;
        }
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let Some((at, response, permit)) = self.get(&url, request, queue).await? else {
                return Ok(None);
            };
            match redirect_target(&url, &response)? {
                Some(next) => url = next,
                None => return self.accept(request, at, response, permit).await.map(Some),
            }
        }
        Err(Error::new(
            Class::Refused,
            format!("the origin redirects more than {MAX_REDIRECTS} times"),
        ))
    }

    /// An answer, from the URL as it was sent.
    async fn get(
        &self,
        url: &SignedUrl,
        request: &OpenRequest,
        queue: Queue,
    ) -> Result<Option<(SignedUrl, Response<Incoming>, OwnedSemaphorePermit)>> {
        let parsed = self.guard.judge_url(url.expose(), &request.allow_hosts)?;
        let Some(permit) = self.permit(&parsed, queue, &request.waits).await? else {
            return Ok(None);
        };
        let is_own_port = parsed
            .port_or_known_default()
            .is_some_and(|port| self.guard.is_own_port(port));
        let client = if is_own_port {
            self.wary_origins()?
        } else {
            &self.origins
        };
        let get = asking(&parsed, request)?;
        let response = tokio::time::timeout(self.settings.head_timeout, client.request(get))
            .await
            .map_err(|_| {
                Error::transient(
                    Class::Unreachable,
                    format!(
                        "the origin did not answer within {:.0} s",
                        self.settings.head_timeout.as_secs_f64()
                    ),
                )
            })?
            .map_err(|error| {
                let is_connect = error.is_connect();
                refused(&error).unwrap_or_else(|| unanswered(is_connect, false).with_source(error))
            })?;
        // The resolver and the URL were judged; this is the last belt.
        if let Some(info) = response.extensions().get::<HttpInfo>()
            && let Err(reason) = self.guard.judge_address(info.remote_addr().ip())
        {
            return Err(Error::new(
                Class::Refused,
                format!("the origin is {reason}"),
            ));
        }
        let now = self.settings.clock.now();
        self.offsets.note(&parsed, response.headers(), now);
        Ok(Some((url.leading_to(parsed.as_str()), response, permit)))
    }

    async fn permit(
        &self,
        url: &Url,
        queue: Queue,
        waits: &Waits,
    ) -> Result<Option<OwnedSemaphorePermit>> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let semaphore = {
            let mut hosts = self
                .hosts
                .lock()
                .map_err(|_| Error::internal("read the table of hosts after a panic"))?;
            if hosts.len() >= REMEMBERED_HOSTS {
                hosts.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            }
            let permits = self.settings.per_host.max(1) as usize;
            hosts
                .entry(host)
                .or_insert_with(|| Arc::new(Semaphore::new(permits)))
                .clone()
        };
        match queue {
            Queue::Leave => Ok(semaphore.try_acquire_owned().ok()),
            Queue::Join => match waits.during(semaphore.acquire_owned()).await {
                Ok(permit) => Ok(Some(permit)),
                Err(_) => Err(Error::internal("wait for a connection to the host")),
            },
        }
    }

    /// What an answer of 200 or 206 opens; the error that any other stands for.
    async fn accept(
        &self,
        request: &OpenRequest,
        url: SignedUrl,
        response: Response<Incoming>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Opened> {
        let status = response.status();
        let headers = response.headers();
        if let (StatusCode::RANGE_NOT_SATISFIABLE, Some(range)) = (status, request.range)
            && answer::unsatisfied_total(headers) == Some(range.start)
        {
            return Ok(nothing_left(range.start, url, headers));
        }
        if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            let (head, body) = response.into_parts();
            let hint = match status.is_client_error() {
                true => read_hint(body).await,
                false => String::new(),
            };
            let now = self.settings.clock.now();
            return Err(answer::status_error(status, &head.headers, &hint, now));
        }
        answer::check_encoding(headers)?;
        let announced = response.body().size_hint().exact();
        let (start, length, body_length) = match status {
            StatusCode::PARTIAL_CONTENT => {
                let range = answer::check_partial(headers, request.range)?;
                let carried = range.last - range.start + 1;
                if announced.is_some_and(|announced| announced != carried) {
                    return Err(Error::transient(
                        Class::Corrupt,
                        "the origin's Content-Length and Content-Range disagree",
                    ));
                }
                (range.start, range.total, Some(carried))
            }
            _ => (0, announced, announced),
        };
        let pace = LeastPace {
            stall_timeout: self.settings.stall_timeout,
            min_rate: self.settings.min_rate,
        };
        let hold = DoorHold {
            deadline: request.deadline,
            clock: Arc::clone(&self.settings.clock),
        };
        Ok(Opened {
            url,
            length,
            start,
            validator: answer::validator(headers),
            accepts_ranges: status == StatusCode::PARTIAL_CONTENT
                || header(headers, ACCEPT_RANGES).is_some_and(|v| v.eq_ignore_ascii_case("bytes")),
            is_delimited: body_length.is_some() || headers.contains_key(TRANSFER_ENCODING),
            content_type: header(headers, CONTENT_TYPE).map(str::to_owned),
            body: {
                let bytes = response.into_body().into_data_stream();
                let body = body::watch(bytes, body_length, pace, hold, permit);
                match &self.throttle {
                    Some(throttle) => throttled(body, Arc::clone(throttle), request.waits.clone()),
                    None => body,
                }
            },
        })
    }
}

#[async_trait]
impl Source for HttpSource {
    async fn open(&self, request: &OpenRequest) -> Result<Opened> {
        let opened = self.follow(request, Queue::Join).await?;
        opened.ok_or_else(|| Error::internal("wait for a connection to the host"))
    }

    async fn try_open(&self, request: &OpenRequest) -> Result<Option<Opened>> {
        self.follow(request, Queue::Leave).await
    }

    fn clock_offset(&self, url: &SignedUrl) -> Option<SignedDuration> {
        self.offsets.of(&Url::parse(url.expose()).ok()?)
    }

    async fn call(&self, request: &ApiRequest) -> Result<ApiResponse> {
        self.guard.judge_url(&request.url, &[])?;
        let mut call = match request.method {
            Method::Get => self.apis()?.get(&request.url),
            Method::Post => self.apis()?.post(&request.url),
        };
        for (name, value) in &request.headers {
            call = call.header(*name, header_value(name, value.expose_secret())?);
        }
        if let Some(body) = &request.body {
            call = call
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        let response = call.send().await.map_err(send_error)?;
        let status = response.status().as_u16();
        let retry_after = answer::retry_after(response.headers(), self.settings.clock.now());
        let date = answer::date(response.headers());
        Ok(ApiResponse {
            status,
            retry_after,
            date,
            body: read_capped(response).await?,
        })
    }
}

fn made_once<T>(kept: &OnceLock<T>, make: impl Fn() -> Result<T>) -> Result<&T> {
    match kept.get() {
        Some(made) => Ok(made),
        None => {
            let made = make()?;
            Ok(kept.get_or_init(|| made))
        }
    }
}

fn nothing_left(start: u64, url: SignedUrl, headers: &HeaderMap) -> Opened {
    Opened {
        url,
        length: Some(start),
        start,
        validator: answer::validator(headers),
        accepts_ranges: true,
        is_delimited: true,
        content_type: None,
        body: futures::stream::empty().boxed(),
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Classifies a call of an API that got no answer.
fn send_error(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if let Some(refused) = refused(&error) {
        return refused;
    }
    if error.is_builder() {
        return unsendable().with_source(error);
    }
    unanswered(error.is_connect(), error.is_timeout()).with_source(error)
}

/// The guard's refusal, if that is why a request was not sent.
fn refused(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let refusal = causes.find_map(|cause| cause.downcast_ref::<AddressRefused>())?;
    Some(Error::new(Class::Refused, refusal.to_string()))
}

fn unanswered(is_connect: bool, is_timeout: bool) -> Error {
    let what = if is_connect {
        "connect to the origin"
    } else if is_timeout {
        "get an answer in time"
    } else {
        "get an answer"
    };
    Error::transient(Class::Unreachable, what)
}

/// The beginning of a refusal's body, as far as it comes quickly.
async fn read_hint(body: Incoming) -> String {
    let mut body = body.into_data_stream();
    let mut hint = BytesMut::new();
    let read = async {
        while hint.len() < HINT_BYTES
            && let Some(Ok(chunk)) = body.next().await
        {
            hint.extend_from_slice(&chunk);
        }
    };
    // A hint that does not come is no hint.
    let _ = tokio::time::timeout(HINT_TIMEOUT, read).await;
    hint.truncate(HINT_BYTES);
    String::from_utf8_lossy(&hint).into_owned()
}

async fn read_capped(mut response: reqwest::Response) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(send_error)? {
        if body.len() + chunk.len() > API_BODY_BYTES {
            return Err(Error::invalid(format!(
                "the provider's API answered with more than {API_BODY_BYTES} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
