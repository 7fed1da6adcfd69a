//! The three calls that are made for every artifact and every part (PutObject, UploadPart, HeadObject), signed and sent
//! without the SDK's machinery, which took a good part of the CPU that a small file costs.
//!
//! Only what goes well is understood here, and the refusals that a condition can have. Whatever else a store answers
//! is for the SDK: it makes the call once more and says what is wrong. A store that again and again takes from the SDK
//! what it refuses here is left to the SDK.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use jiff::SignedDuration;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::body::Chunks;
use super::classify::chain;
use super::identity::CredentialCache;
use crate::clock::{Clock as _, SystemClock};
use crate::http1;
use crate::object::Payload;

/// What a signature leaves as it is in a path (Amazon S3, Signature Version 4: `UriEncode`).
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// The same in a query.
const QUERY: &AsciiSet = &PATH.add(b'/');

/// What the names of an object's own metadata begin with.
pub(super) const METADATA: &str = "x-amz-meta-";

/// No offset of a clock.
const UNKNOWN: i64 = i64::MIN;

/// One refusal that does not come again may have had any reason, such as a byte that was damaged on its way.
const MAX_REFUSED: u32 = 3;

/// The wait before the SDK makes a call that failed here is drawn from zero to this: the first of the SDK's own waits.
const REPEAT_DELAY: Duration = Duration::from_secs(1);

/// What the calls are sent by.
pub(super) type HttpClient = http1::Client<Chunks>;

/// The calls for one bucket. Clones share connections and credentials.
#[derive(Clone)]
pub(super) struct Direct(Arc<Bucket>);

struct Bucket {
    client: HttpClient,
    /// An object's URL but for its key.
    base: String,
    region: String,
    identities: CredentialCache,
    /// By how much our clock is ahead of the store's; [`UNKNOWN`] before the first answer.
    ahead_seconds: AtomicI64,
    /// How often in a row the store has taken from the SDK what it had refused here.
    refused: AtomicU32,
}

/// One call.
pub(super) struct DirectCall<'a> {
    pub(super) method: Method,
    pub(super) key: &'a str,
    /// Names in order, values as they are.
    pub(super) query: &'a [(&'static str, &'a str)],
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: Option<&'a Payload>,
    /// Of the payload, in hex, where the signature has to cover that.
    pub(super) sha256: Option<String>,
    /// How long it may take.
    pub(super) limit: Duration,
}

/// An answer that is understood here.
pub(super) enum DirectAnswer {
    /// 200.
    Done(HeaderMap),
    /// 404 to a HEAD.
    Missing,
    /// 412.
    Taken,
    /// 409.
    Conflict,
}

/// A call that the SDK has to make.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Left {
    /// How often it was sent here.
    pub(super) sent: u32,
    /// Whether the store answered that it does not take it.
    is_refused: bool,
}

impl Left {
    /// Sent, and what was answered tells nothing.
    pub(super) fn once() -> Left {
        Left {
            sent: 1,
            is_refused: false,
        }
    }
}

impl Direct {
    /// Learns from the SDK where objects are and how their calls are signed. `None` where that is another way than a
    /// plain bucket's: a directory bucket's sessions, several regions.
    pub(super) async fn learn(
        sdk: &Client,
        bucket: &str,
        provider: SharedCredentialsProvider,
        client: HttpClient,
    ) -> Option<Direct> {
        const KEY: &str = "key";
        let an_hour = PresigningConfig::expires_in(Duration::from_secs(3600)).ok()?;
        let call = sdk.get_object().bucket(bucket).key(KEY);
        let presigned = call.presigned(an_hour).await.ok()?;
        let (base, region) = taught(presigned.uri(), KEY)?;
        Some(Direct(Arc::new(Bucket {
            client,
            base,
            region,
            identities: CredentialCache::of(provider),
            ahead_seconds: AtomicI64::new(UNKNOWN),
            refused: AtomicU32::new(0),
        })))
    }

    /// An object's URL but for its key.
    pub(super) fn base(&self) -> &str {
        &self.0.base
    }

    /// Makes a call.
    ///
    /// # Errors
    /// When it is for the SDK to make; a store that could not answer is given a moment before that.
    pub(super) async fn send(&self, call: DirectCall<'_>) -> Result<DirectAnswer, Left> {
        let is_head = call.method == Method::HEAD;
        let limit = call.limit;
        // Credentials may have to be asked for: that has the same limit.
        let request = tokio::time::timeout(limit, self.request(call)).await;
        let request = request.ok().flatten().ok_or(Left::default())?;
        let sent = tokio::time::timeout(limit, self.0.client.request(request)).await;
        let response = match sent {
            Ok(Ok(response)) => Some(response),
            Ok(Err(error)) => {
                tracing::debug!(error = chain(&error), "a call to the bucket failed");
                None
            }
            Err(_) => None,
        };
        let status = response.as_ref().map(Response::status);
        match (status, response) {
            (Some(StatusCode::OK), Some(response)) => {
                self.0.refused.store(0, Ordering::Relaxed);
                self.note_date(response.headers());
                return Ok(DirectAnswer::Done(response.into_parts().0.headers));
            }
            (Some(StatusCode::NOT_FOUND), _) if is_head => return Ok(DirectAnswer::Missing),
            (Some(StatusCode::PRECONDITION_FAILED), _) => return Ok(DirectAnswer::Taken),
            (Some(StatusCode::CONFLICT), _) => return Ok(DirectAnswer::Conflict),
            _ => {}
        }
        let is_refused = status.is_some_and(is_refusal);
        if !is_refused {
            tokio::time::sleep(REPEAT_DELAY.mul_f64(fastrand::f64())).await;
        }
        Err(Left {
            sent: 1,
            is_refused,
        })
    }

    /// The SDK has made a call that was left to it, and the store took it.
    pub(super) fn note_taken(&self, left: Left) {
        if left.is_refused && self.0.refused.fetch_add(1, Ordering::Relaxed) + 1 == MAX_REFUSED {
            tracing::info!("the object store wants calls as the SDK makes them");
        }
    }

    async fn request(&self, call: DirectCall<'_>) -> Option<Request<Chunks>> {
        let bucket = &self.0;
        if bucket.refused.load(Ordering::Relaxed) >= MAX_REFUSED {
            return None;
        }
        let target = target(&bucket.base, call.key, call.query);
        let signature = self.sign(&call, &target).await?;
        let mut request = Request::new(call.payload.map_or_else(Chunks::none, Chunks::of));
        *request.method_mut() = call.method;
        *request.uri_mut() = Uri::try_from(target).ok()?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(http1::USER_AGENT));
        if let Some(payload) = call.payload {
            // Of an empty body hyper tells no length, which S3 wants to know of any.
            headers.insert(CONTENT_LENGTH, payload.size_bytes.into());
        }
        for (name, value) in call.headers {
            let name = HeaderName::try_from(name).ok()?;
            headers.insert(name, HeaderValue::try_from(value).ok()?);
        }
        headers.extend(signature);
        Some(request)
    }

    /// The headers that sign a call.
    async fn sign(&self, call: &DirectCall<'_>, url: &str) -> Option<HeaderMap> {
        let identity = self.0.identities.get().await?;
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.0.region)
            .name("s3")
            .time(SystemClock.now().into())
            .settings(settings)
            .build()
            .ok()?
            .into();
        let headers = call
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        // Else the checksum that goes along is what the store checks the content by.
        let sha256 = call.sha256.clone();
        let body = sha256.map_or(SignableBody::UnsignedPayload, SignableBody::Precomputed);
        let request = SignableRequest::new(call.method.as_str(), url, headers, body).ok()?;
        let (instructions, _) = sign(request, &params).ok()?.into_parts();
        let (signed, _) = instructions.into_parts();
        signed
            .into_iter()
            .map(|header| {
                let mut value = HeaderValue::from_str(header.value()).ok()?;
                value.set_sensitive(header.sensitive());
                Some((HeaderName::from_static(header.name()), value))
            })
            .collect()
    }

    /// By how much our clock is ahead of the store's, as its last answer told.
    pub(super) fn clock_offset(&self) -> Option<SignedDuration> {
        let seconds = self.0.ahead_seconds.load(Ordering::Relaxed);
        (seconds != UNKNOWN).then(|| SignedDuration::from_secs(seconds))
    }

    fn note_date(&self, headers: &HeaderMap) {
        let date = text(headers, DATE.as_str());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(&date).ok());
        if let Some(date) = date {
            let ahead = SystemClock.now().duration_since(date.timestamp());
            self.0
                .ahead_seconds
                .store(ahead.as_secs(), Ordering::Relaxed);
        }
    }
}

/// The URL of a call. Nothing is taken out of it on its way: dots between slashes are a name to S3 like any other.
fn target(base: &str, key: &str, query: &[(&str, &str)]) -> String {
    let mut target = format!("{base}{}", utf8_percent_encode(key, PATH));
    for (place, (name, value)) in query.iter().enumerate() {
        target.push(if place == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        target.extend(utf8_percent_encode(value, QUERY));
    }
    target
}

/// Whether an answer says that the call is not taken, and not that the store can't at this moment.
fn is_refusal(status: StatusCode) -> bool {
    let is_passing = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    );
    status == StatusCode::NOT_IMPLEMENTED || (status.is_client_error() && !is_passing)
}

/// Those headers of a call that it has.
pub(super) fn some(
    named: impl IntoIterator<Item = (&'static str, Option<String>)>,
) -> Vec<(String, String)> {
    let named = named.into_iter();
    named
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// A header's value.
pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// What a presigned URL of `key` tells: an object's URL without its key, and the region of its signature.
fn taught(presigned: &str, key: &str) -> Option<(String, String)> {
    let url = url::Url::parse(presigned).ok()?;
    let value = |name| {
        let pair = url.query_pairs().find(|(found, _)| found == name);
        pair.map(|(_, value)| value.into_owned())
    };
    let is_plain = value("X-Amz-Algorithm")? == "AWS4-HMAC-SHA256";
    let credential = value("X-Amz-Credential")?;
    let scope: Vec<_> = credential.rsplitn(5, '/').collect();
    let ["aws4_request", "s3", region, _, _] = scope.as_slice() else {
        return None;
    };
    let base = presigned.split('?').next()?.strip_suffix(key)?;
    is_plain.then(|| (base.to_owned(), (*region).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presigned_url_tells_where_a_plain_buckets_objects_are() {
        let of = |base: &str, algorithm: &str, scope: &str| {
            let url = format!(
                "{base}key?x-id=GetObject&X-Amz-Algorithm={algorithm}&X-Amz-Credential=AK%2FID%2F20261128%2F{scope}%2Faws4_request"
            );
            taught(&url, "key")
        };
        for base in [
            "https://bucket.s3.eu-central-1.amazonaws.com/",
            "http://127.0.0.1:9000/bucket/",
        ] {
            let taught = of(base, "AWS4-HMAC-SHA256", "eu-central-1%2Fs3");
            assert_eq!(taught, Some((base.to_owned(), "eu-central-1".to_owned())));
        }
        let base = "https://bucket--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/";
        assert_eq!(of(base, "AWS4-HMAC-SHA256", "us-east-1%2Fs3express"), None);
        let base = "https://name.mrap.accesspoint.s3-global.amazonaws.com/";
        assert_eq!(of(base, "AWS4-ECDSA-P256-SHA256", "%2As3"), None);
    }

    #[test]
    fn a_target_is_what_is_signed() {
        let base = "http://127.0.0.1:9000/bucket/";
        let of = |key, query: &[_]| target(base, key, query);
        assert_eq!(of("a/b.mp4", &[]), format!("{base}a/b.mp4"));
        assert_eq!(
            of("a/../b c~é+", &[]),
            format!("{base}a/../b%20c~%C3%A9%2B")
        );
        let query = [("partNumber", "1"), ("uploadId", "a/b=")];
        assert_eq!(
            of("k", &query),
            format!("{base}k?partNumber=1&uploadId=a%2Fb%3D")
        );
    }

    #[test]
    fn a_store_that_can_not_answer_has_refused_nothing() {
        let statuses = [400, 403, 404, 408, 411, 429, 500, 501, 503];
        let refusals: Vec<_> = statuses
            .into_iter()
            .filter(|status| is_refusal(StatusCode::from_u16(*status).unwrap()))
            .collect();
        assert_eq!(refusals, [400, 403, 404, 411, 501]);
    }
}
