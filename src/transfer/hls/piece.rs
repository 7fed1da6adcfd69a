//! One file that a playlist names: fetched whole, put under its name, proved by asking.
//!
//! A small one goes up in one request from memory; a larger one goes the way of any other artifact, part
//! by part.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::context::{Context, Found, Token};
use crate::error::{Class, Error, Result};
use crate::model::{Archived, Checkpoint, Format, Job, Origin, ProgressEvent};
use crate::object::{Condition, Payload, encode_crc64nvme};
use crate::signed_url::SignedUrl;
use crate::source::Opened;
use crate::source::hls::Role;
use crate::transfer::digest::PartDigest;
use crate::transfer::names::Names;
use crate::transfer::part::PartBuilder;
use crate::transfer::patience::{TRIES, wait_after};
use crate::transfer::verify::Check;
use crate::transfer::{Engine, Ledger};

/// The length of a key (AES with 128 bits).
const KEY_BYTES: u64 = 16;

/// One file to carry.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Where it is; what makes it the same piece.
    pub(super) url: String,
    pub(super) is_relative: bool,
    pub(super) token: Arc<Token>,
    pub(super) role: Role,
    /// The planned key.
    pub(super) key: String,
    /// Whether the recording is incomplete without it.
    pub(super) is_needed: bool,
    /// The end of the furthest byte range of it that is asked for.
    pub(super) range_end: u64,
}

/// A piece that is in the bucket, as it was confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Landed {
    pub(super) key: String,
    pub(super) size_bytes: u64,
    pub(super) crc64nvme: String,
}

impl From<Archived> for Landed {
    fn from(archived: Archived) -> Landed {
        Landed {
            key: archived.key,
            size_bytes: archived.size_bytes,
            crc64nvme: archived.crc64nvme,
        }
    }
}

/// What was read of a piece.
enum Read {
    Whole(Payload),
    /// It is larger than a part.
    Large(SignedUrl),
}

impl Piece {
    pub(super) async fn carry(&self, context: &Context) -> Result<Landed> {
        let mut names = Names::of(&self.key);
        if context.is_resumed() {
            loop {
                match context.find(&names.key(), Some(&self.url)).await? {
                    Found::Ours(archived) => {
                        context.count(archived.size_bytes)?;
                        return Ok(archived.into());
                    }
                    Found::Others => names.next()?,
                    Found::Nothing => break,
                }
            }
        }
        let mut tried = 0;
        loop {
            tried += 1;
            match self.try_once(context, &mut names).await {
                Err(error) if error.is_transient() && tried < TRIES && !is_upload(&error) => {
                    tracing::debug!(key = self.key, cause = %error.full_message(), "fetching a piece again");
                    if let Some(wait) = error.retry_after() {
                        if wait > MAX_WAIT {
                            return Err(error);
                        }
                        tokio::time::sleep(wait).await;
                    }
                    wait_after(tried).await;
                }
                ended => return ended,
            }
        }
    }

    async fn try_once(&self, context: &Context, names: &mut Names) -> Result<Landed> {
        let part_bytes = context.engine.settings.part_size_bytes;
        let opened = context
            .open(&self.url, self.is_relative, &self.token)
            .await?;
        let is_large = opened.length.unwrap_or(self.range_end) > part_bytes;
        let expected = opened.length.unwrap_or(part_bytes).min(part_bytes);
        let share = match is_large {
            true => None,
            false => Some(context.take(expected).await?),
        };
        let read = match is_large {
            true => Read::Large(opened.url.clone()),
            false => self.read(context, opened, part_bytes).await?,
        };
        let landed = match read {
            Read::Whole(payload) => put(context, names, &payload, Some(&self.url)).await?,
            Read::Large(url) => {
                drop(share);
                self.carry_large(context, url, names).await?
            }
        };
        context.count(landed.size_bytes)?;
        Ok(landed)
    }

    async fn read(&self, context: &Context, opened: Opened, most: u64) -> Result<Read> {
        let url = opened.url.clone();
        let (length, is_delimited) = (opened.length, opened.is_delimited);
        let Some(payload) = self.read_body(opened, most).await? else {
            return Ok(Read::Large(url));
        };
        if length.is_some_and(|length| length != payload.size_bytes) {
            return Err(Error::transient(
                Class::Unreachable,
                format!(
                    "the body was cut after {} of {} bytes",
                    payload.size_bytes,
                    length.unwrap_or_default()
                ),
            ));
        }
        // A body whose end is not marked looks whole when it is cut: it is read a second time.
        if !is_delimited {
            let again = context
                .open(&self.url, self.is_relative, &self.token)
                .await?;
            let again = self.read_body(again, most).await?;
            if again.is_none_or(|again| again.crc64nvme != payload.crc64nvme) {
                return Err(Error::transient(
                    Class::Corrupt,
                    "the origin tells no length and sent something else the second time",
                ));
            }
        }
        Ok(Read::Whole(payload))
    }

    /// The whole body; `None` when it is longer than `most`.
    async fn read_body(&self, mut opened: Opened, most: u64) -> Result<Option<Payload>> {
        let mut part = PartBuilder::new();
        let mut check = Check::new(self.format());
        while let Some(chunk) = opened.body.next().await {
            let chunk = chunk?;
            if part.size_bytes() + chunk.len() as u64 > most {
                return Ok(None);
            }
            check.feed(&chunk)?;
            part.push(chunk);
        }
        let payload = part.finish();
        if payload.size_bytes == 0 {
            return Err(Error::new(Class::Corrupt, "the origin sent an empty file"));
        }
        check.finish()?;
        if self.role == Role::Key && payload.size_bytes != KEY_BYTES {
            return Err(Error::new(
                Class::Corrupt,
                format!(
                    "a key has {KEY_BYTES} bytes and the origin sent {}",
                    payload.size_bytes
                ),
            ));
        }
        Ok(Some(payload))
    }

    /// What the bytes are checked as: segments may be encrypted, so of most only that they are no error page.
    fn format(&self) -> Format {
        match self.role {
            Role::SessionData => Format::Json,
            _ => Format::Bin,
        }
    }

    async fn carry_large(
        &self,
        context: &Context,
        url: SignedUrl,
        names: &mut Names,
    ) -> Result<Landed> {
        let key = names.key();
        let attributes = context.attributes(&key, Some(&self.url));
        let engine = context.engine.dressed(attributes);
        let job = Job {
            origin: Origin::Url(url),
            format: self.format(),
            size_bytes: None,
            checkpoint: None,
            key,
            ..context.job.clone()
        };
        let archived = carry_alone(&engine, &job, &context.allow_hosts).await?;
        Ok(archived.into())
    }
}

/// The longest Retry-After that a piece waits for; beyond it the whole attempt ends.
const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

fn is_upload(error: &Error) -> bool {
    matches!(
        error.class(),
        Class::UploadDenied | Class::UploadFailed | Class::Internal
    )
}

/// Boxed, since the engine that carries a ladder carries its large pieces too.
fn carry_alone<'a>(
    engine: &'a Engine,
    job: &'a Job,
    allow_hosts: &'a [String],
) -> BoxFuture<'a, Result<Archived>> {
    Box::pin(async move {
        let emit: crate::model::progress::Emit = Arc::new(|_: ProgressEvent| {});
        let cancel = CancellationToken::new();
        let ledger = Quiet::default();
        let carried = engine
            .carry(job, allow_hosts, &ledger, &emit, &cancel)
            .await;
        // Nobody would go on with a piece's upload: the ladder's next attempt begins it anew.
        let left = ledger
            .0
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let (Err(_), Some(checkpoint)) = (&carried, left) {
            engine.abandon(job, &checkpoint).await;
        }
        carried
    })
}

/// The ledger of a piece: the ladder's own is kept by who carries the ladder.
#[derive(Default)]
struct Quiet(Mutex<Option<Checkpoint>>);

#[async_trait]
impl Ledger for Quiet {
    async fn save(&self, checkpoint: Option<&Checkpoint>, _: u64) -> Result<()> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = checkpoint.cloned();
        Ok(())
    }

    async fn is_held(&self) -> bool {
        true
    }
}

/// Puts `payload` under the first name that is free or has it already.
pub(super) async fn put(
    context: &Context,
    names: &mut Names,
    payload: &Payload,
    origin: Option<&str>,
) -> Result<Landed> {
    let crc64nvme = encode_crc64nvme(payload.crc64nvme);
    let objects = &context.engine.objects;
    let mut tried = 0;
    loop {
        tried += 1;
        let key = names.key();
        let attributes = context.attributes(&key, origin);
        let put = objects
            .put(&key, payload, &attributes, Some(&Condition::Absent))
            .await;
        let put = match put {
            Err(error) if !error.is_transient() => return Err(error),
            put => put,
        };
        let is_same = |there: &Archived| {
            there.size_bytes == payload.size_bytes && there.crc64nvme == crc64nvme
        };
        let failure = match (context.find(&key, origin).await, put) {
            (Ok(Found::Ours(there)), _) if is_same(&there) => return Ok(there.into()),
            (Ok(Found::Nothing), Ok(_)) => Error::transient(
                Class::UploadFailed,
                format!("{key} is not in the bucket after it was written"),
            ),
            (Ok(Found::Nothing) | Err(_), Err(error)) | (Err(error), Ok(_)) => error,
            // Another's, or an earlier content of the same place.
            (Ok(Found::Others | Found::Ours(_)), _) => {
                names.next()?;
                tried = 0;
                continue;
            }
        };
        if !failure.is_transient() || tried >= TRIES {
            return Err(failure);
        }
        wait_after(tried).await;
    }
}

/// A payload of bytes that are here.
pub(super) fn payload_of(bytes: Vec<u8>) -> Payload {
    let mut digest = PartDigest::new();
    digest.update(&bytes);
    Payload {
        size_bytes: bytes.len() as u64,
        crc64nvme: digest.crc64nvme(),
        chunks: Arc::new(vec![bytes.into()]),
    }
}
