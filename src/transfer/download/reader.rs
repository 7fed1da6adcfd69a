//! The origin's bytes in order, across cuts. Long: one loop over one state.
//!
//! A body may end before its announced end: the connection breaks, a front end closes after its fixed
//! time, the origin stalls. Where the origin has a validator and takes ranges, reading goes on at the
//! byte where it stopped; the caller need not know. No resume is trusted: the answer must be the range
//! that was asked for, of the same version and length, else the content is begun again.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use tokio::time::Instant;

use crate::error::{Class, Error, Result};
use crate::model::Deadline;
use crate::signed_url::SignedUrl;
use crate::source::{ByteRange, OpenRequest, Opened, Source, Waits};

/// Resumes in a row that bring less than [`PROGRESS_BYTES`].
const MAX_RESUMES: u32 = 5;

/// What a resume must bring for the next one to count as the first.
const PROGRESS_BYTES: u64 = 1024 * 1024;

/// The first wait before a resume is drawn from zero to this; it doubles.
const RESUME_DELAY: Duration = Duration::from_millis(100);

/// A longer Retry-After is for the scheduler: a connection to the bucket is waiting.
const MAX_RESUME_DELAY: Duration = Duration::from_secs(10);

/// How long opening may take for who holds memory already: a connection that is waited for may be held
/// by another transfer that waits for that memory.
const REOPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Why carrying stopped.
pub(in crate::transfer) enum Stop {
    /// For good, or until the scheduler says otherwise.
    Fail(Error),
    /// The bytes so far are worth nothing: begin again, with this body if there is one.
    Restart {
        /// What is told if there is no other begin.
        why: Error,
        /// The content from its first byte.
        opened: Option<Box<Opened>>,
    },
    /// The bucket does not have all parts as they were sent: those are sent again, and the upload goes on.
    Resend(Error),
    /// Somebody else's content is under the key.
    Taken,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Fail(error)
    }
}

/// Where content comes from.
#[derive(Clone, Copy)]
pub(in crate::transfer) struct Remote<'a> {
    /// Opens it.
    pub(in crate::transfer) source: &'a dyn Source,
    /// Its URL.
    pub(in crate::transfer) url: &'a SignedUrl,
    /// Hosts that it may lead to.
    pub(in crate::transfer) allow_hosts: &'a [String],
    /// Until when it can be opened.
    pub(in crate::transfer) deadline: Deadline,
    /// More is refused.
    pub(in crate::transfer) max_bytes: u64,
    /// Who is told of waits for a turn at the host.
    pub(in crate::transfer) waits: &'a Waits,
}

/// One version of the content, as its first answer told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::transfer) struct ContentVersion {
    /// The length of the whole.
    pub(in crate::transfer) length: Option<u64>,
    /// What identifies it.
    pub(in crate::transfer) validator: Option<String>,
}

/// Reads one version of an origin's content, or a range of it.
pub(in crate::transfer) struct OriginReader<'a> {
    remote: Remote<'a>,
    version: ContentVersion,
    accepts_ranges: bool,
    is_delimited: bool,
    body: BoxStream<'static, Result<Bytes>>,
    position: u64,
    /// Where to stop, when not at the content's end.
    end: Option<u64>,
    /// Up to where bodies are asked for, when not to the content's end: `end` may be moved up to here.
    reach: Option<u64>,
    unread: Option<Bytes>,
    resumes: u32,
    resumed_at: u64,
    waited: Duration,
}

impl<'a> OriginReader<'a> {
    /// Opens the origin, or goes on with `opened`. Content over the limit is refused.
    pub(in crate::transfer) async fn open(
        remote: Remote<'a>,
        opened: Option<Box<Opened>>,
    ) -> Result<OriginReader<'a>> {
        let opened = match opened {
            Some(opened) => *opened,
            None => remote.source.open(&remote.request(None, None)).await?,
        };
        if let Some(length) = opened.length.filter(|length| *length > remote.max_bytes) {
            return Err(too_large(&format!("{length} bytes"), remote.max_bytes));
        }
        Ok(OriginReader::of(remote, opened, 0, None))
    }

    /// Opens the origin once more, for who holds memory already.
    pub(in crate::transfer) async fn open_again(remote: Remote<'a>) -> Result<OriginReader<'a>> {
        let opened = remote.reopen().await?;
        OriginReader::open(remote, Some(Box::new(opened))).await
    }

    /// Opens the bytes from `start` to `end` of a version that is known.
    ///
    /// # Errors
    /// `Restart` when the origin has another version now, or gives no ranges.
    pub(in crate::transfer) async fn open_range(
        remote: Remote<'a>,
        version: &ContentVersion,
        start: u64,
        end: u64,
    ) -> Result<OriginReader<'a>, Stop> {
        let request = remote.range_of(version, start, end);
        let opened = in_time(remote.source.open(&request)).await?;
        OriginReader::of_range(remote, version, start, end, opened)
    }

    /// As [`OriginReader::open_range`], but `None` when the host has no connection to spare.
    pub(in crate::transfer) async fn try_open_range(
        remote: Remote<'a>,
        version: &ContentVersion,
        start: u64,
        end: u64,
    ) -> Result<Option<OriginReader<'a>>, Stop> {
        let request = remote.range_of(version, start, end);
        match in_time(remote.source.try_open(&request)).await? {
            Some(opened) => OriginReader::of_range(remote, version, start, end, opened).map(Some),
            None => Ok(None),
        }
    }

    fn of_range(
        remote: Remote<'a>,
        version: &ContentVersion,
        start: u64,
        end: u64,
        opened: Opened,
    ) -> Result<OriginReader<'a>, Stop> {
        if opened.start != start {
            return Err(Stop::Restart {
                why: Error::transient(
                    Class::Unreachable,
                    "the origin sends all of the content instead of a range: it has changed, or ranges don't work any more",
                ),
                opened: (opened.start == 0).then(|| Box::new(opened)),
            });
        }
        check_same(version, &opened)?;
        let mut reader = OriginReader::of(remote, opened, start, Some(end));
        reader.version = version.clone();
        Ok(reader)
    }

    fn of(remote: Remote<'a>, opened: Opened, position: u64, end: Option<u64>) -> OriginReader<'a> {
        OriginReader {
            remote,
            version: ContentVersion {
                length: opened.length,
                validator: opened.validator,
            },
            accepts_ranges: opened.accepts_ranges,
            is_delimited: opened.is_delimited,
            body: opened.body,
            position,
            end,
            reach: end,
            unread: None,
            resumes: 0,
            resumed_at: 0,
            waited: Duration::ZERO,
        }
    }

    /// The version that is read.
    pub(in crate::transfer) fn version(&self) -> &ContentVersion {
        &self.version
    }

    /// Whether another request may go on in the middle of this content.
    pub(in crate::transfer) fn is_resumable(&self) -> bool {
        self.accepts_ranges && self.version.validator.is_some() && self.version.length.is_some()
    }

    /// Reading goes on to `end`.
    pub(in crate::transfer) fn read_to(&mut self, end: u64) {
        self.end = Some(end);
    }

    /// How long the origin was waited for since this was last asked.
    pub(in crate::transfer) fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }

    /// The length of the whole, once known.
    pub(in crate::transfer) fn length(&self) -> Option<u64> {
        self.version.length
    }

    /// Bytes that came in so far.
    pub(in crate::transfer) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the end that was read is known to be the content's end.
    pub(in crate::transfer) fn is_end_certain(&self) -> bool {
        self.version.length.is_some() || self.is_delimited
    }

    /// Gives back what did not fit.
    pub(in crate::transfer) fn unread(&mut self, bytes: Bytes) {
        self.unread = Some(bytes);
    }

    /// The next bytes; `None` at the end.
    pub(in crate::transfer) async fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        if let Some(bytes) = self.unread.take() {
            return Ok(Some(bytes));
        }
        loop {
            let begun = Instant::now();
            let item = self.body.next().await;
            self.waited += begun.elapsed();
            match item {
                Some(Ok(chunk)) => return self.advance(chunk).map(Some),
                Some(Err(error)) if is_cut(&error) => self.resume(error).await?,
                Some(Err(error)) => return Err(error.into()),
                None => match self.end.or(self.version.length) {
                    Some(end) if self.position < end => {
                        let cut = self.cut(end);
                        self.resume(cut).await?;
                    }
                    _ => return Ok(None),
                },
            }
        }
    }

    fn advance(&mut self, chunk: Bytes) -> Result<Bytes, Stop> {
        self.position += chunk.len() as u64;
        let length = self.version.length;
        if let Some(length) = length.filter(|length| self.position > *length) {
            return Err(Stop::Fail(Error::new(
                Class::Corrupt,
                format!("the origin sent more than the {length} bytes that it announced"),
            )));
        }
        let max_bytes = self.remote.max_bytes;
        if self.position > max_bytes {
            return Err(Stop::Fail(too_large("more than that", max_bytes)));
        }
        Ok(chunk)
    }

    fn cut(&self, length: u64) -> Error {
        Error::transient(
            Class::Unreachable,
            format!("the body was cut after {} of {length} bytes", self.position),
        )
    }

    async fn resume(&mut self, mut cause: Error) -> Result<(), Stop> {
        if self.position == 0 {
            return Err(Stop::Restart {
                why: cause,
                opened: None,
            });
        }
        if !self.accepts_ranges || self.version.validator.is_none() {
            return Err(cause.into());
        }
        if self.position - self.resumed_at >= PROGRESS_BYTES {
            self.resumes = 0;
        }
        self.resumed_at = self.position;
        // The cut body must not keep the connection that its own continuation may wait for.
        self.body = futures::stream::empty().boxed();
        loop {
            self.resumes += 1;
            let Some(delay) = delay(self.resumes, cause.retry_after()) else {
                return Err(cause.into());
            };
            tracing::debug!(
                position = self.position,
                cause = %cause.full_message(),
                "resuming a cut body"
            );
            tokio::time::sleep(delay).await;
            match in_time(self.remote.source.open(&self.rest())).await {
                Ok(opened) => return self.go_on(opened, cause),
                Err(error) if is_passing(&error) => cause = error,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn rest(&self) -> OpenRequest {
        let end = self.reach.filter(|end| Some(*end) != self.version.length);
        let range = ByteRange {
            start: self.position,
            end,
        };
        self.remote
            .request(Some(range), self.version.validator.clone())
    }

    fn go_on(&mut self, opened: Opened, cause: Error) -> Result<(), Stop> {
        if opened.start != self.position {
            return Err(Stop::Restart {
                why: cause,
                opened: (opened.start == 0).then(|| Box::new(opened)),
            });
        }
        // Nothing left (416): there are no bytes that could be of another version.
        let is_at_end = opened.length == Some(self.position);
        if !is_at_end {
            check_validator(&self.version, &opened)?;
        }
        check_length(&self.version, &opened)?;
        self.version.length = self.version.length.or(opened.length);
        self.is_delimited = opened.is_delimited;
        self.body = opened.body;
        Ok(())
    }
}

impl Remote<'_> {
    /// The content from its first byte, opened once more.
    pub(in crate::transfer) async fn reopen(&self) -> Result<Opened> {
        in_time(self.source.open(&self.request(None, None))).await
    }

    fn range_of(&self, version: &ContentVersion, start: u64, end: u64) -> OpenRequest {
        let is_to_end = version.length == Some(end);
        let range = ByteRange {
            start,
            end: (!is_to_end).then_some(end),
        };
        self.request(Some(range), version.validator.clone())
    }

    fn request(&self, range: Option<ByteRange>, validator: Option<String>) -> OpenRequest {
        OpenRequest {
            url: self.url.clone(),
            range,
            validator,
            allow_hosts: self.allow_hosts.to_vec(),
            deadline: self.deadline,
            waits: self.waits.clone(),
        }
    }
}

/// Whether `opened` is of the version that was read before.
fn check_same(version: &ContentVersion, opened: &Opened) -> Result<(), Stop> {
    check_validator(version, opened)?;
    check_length(version, opened)
}

fn check_validator(version: &ContentVersion, opened: &Opened) -> Result<(), Stop> {
    if opened.validator == version.validator {
        return Ok(());
    }
    Err(Stop::Restart {
        why: Error::transient(
            Class::Unreachable,
            "the content changed at the origin while it was read",
        ),
        opened: None,
    })
}

fn check_length(version: &ContentVersion, opened: &Opened) -> Result<(), Stop> {
    match (version.length, opened.length) {
        (Some(first), Some(now)) if first != now => Err(Stop::Fail(Error::new(
            Class::Corrupt,
            format!("the origin tells {first} bytes and then {now} for the same content"),
        ))),
        _ => Ok(()),
    }
}

async fn in_time<T>(opening: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(REOPEN_TIMEOUT, opening)
        .await
        .unwrap_or_else(|_| {
            Err(Error::transient(
                Class::Unreachable,
                format!(
                    "the origin could not be opened again within {} s",
                    REOPEN_TIMEOUT.as_secs()
                ),
            ))
        })
}

/// Whether the rest of the content may still be had.
fn is_cut(error: &Error) -> bool {
    error.is_transient() && error.class() == Class::Unreachable
}

/// Whether another try to resume may meet a better origin.
fn is_passing(error: &Error) -> bool {
    error.is_transient() && matches!(error.class(), Class::Unreachable | Class::Throttled)
}

/// How long an origin that asked to be left alone for so long is left alone where that must not take long.
pub(in crate::transfer) fn capped_delay(asked: Option<Duration>) -> Duration {
    RESUME_DELAY
        .mul_f64(fastrand::f64())
        .max(asked.unwrap_or_default().min(MAX_RESUME_DELAY))
}

fn delay(resumes: u32, asked: Option<Duration>) -> Option<Duration> {
    let asked = asked.unwrap_or_default();
    if resumes > MAX_RESUMES || asked > MAX_RESUME_DELAY {
        return None;
    }
    let most = RESUME_DELAY * 2u32.pow(resumes - 1);
    Some(most.mul_f64(fastrand::f64()).max(asked))
}

fn too_large(what: &str, max_bytes: u64) -> Error {
    Error::new(
        Class::Refused,
        format!(
            "the object is larger than limits.max_object, {max_bytes} bytes: the origin sends {what}"
        ),
    )
}
