//! One file that a playlist names: fetched whole, put under its name, proved by asking.
//!
//! A small one goes up in one request from memory; a larger one goes the way of any other artifact, part
//! by part. Who waits for a connection or for memory holds neither a connection nor memory of its own, so
//! that many pieces can't wait for each other.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::BoxFuture;

use super::cipher::Cipher;
use super::context::HlsAttempt;
use super::decrypt::{self, Deciphering, Secret};
use super::earlier::{self, FileVersion};
use super::identity::lasting;
use super::lease::LeaseDesk;
use super::put::put;
use super::token::InheritedQuery;
use crate::error::{Class, Error, Result};
use crate::format::check::ContentCheck;
use crate::format::hls::UriRole;
use crate::model::{Archived, Checkpoint, Format, Job, Origin, ProgressEvent};
use crate::object::Payload;
use crate::signed_url::SignedUrl;
use crate::source::{Opened, Waits};
use crate::transfer::download::part::PartBuilder;
use crate::transfer::free_name::FreeNames;
use crate::transfer::memory::budget::Share;
use crate::transfer::upload::retry::{TRIES, wait_after};
use crate::transfer::{Engine, Ledger};

/// The length of a key (AES with 128 bits).
const KEY_BYTES: u64 = 16;

/// One file to carry.
#[derive(Clone, Debug)]
pub(super) struct HlsFile {
    /// Where it is; what makes it the same piece.
    pub(super) url: String,
    pub(super) is_relative: bool,
    pub(super) token: Arc<InheritedQuery>,
    pub(super) role: UriRole,
    /// The planned key.
    pub(super) key: String,
    /// Whether the recording is incomplete without it.
    pub(super) is_needed: bool,
    /// The end of the furthest byte range of it that is asked for.
    pub(super) range_end: u64,
    /// Whether another file of the recording has the same path.
    pub(super) is_shared: bool,
    /// What it is decrypted with, and whose query its key may be asked with.
    pub(super) cipher: Option<(Cipher, Arc<InheritedQuery>)>,
}

/// A piece that is in the bucket, as it was confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Landed {
    pub(super) key: String,
    pub(super) size_bytes: u64,
    pub(super) crc64nvme: String,
    /// Whether it is the plain text of what the origin has.
    pub(super) is_decrypted: bool,
}

impl From<Archived> for Landed {
    fn from(archived: Archived) -> Landed {
        Landed {
            key: archived.key,
            size_bytes: archived.size_bytes,
            crc64nvme: archived.crc64nvme,
            is_decrypted: false,
        }
    }
}

/// What a piece turned out to be.
enum Tried {
    Landed(Landed),
    /// It is larger than a part; where it is, and what the origin tells of it.
    Large(SignedUrl, FileVersion),
}

impl HlsFile {
    pub(super) async fn carry(&self, context: &HlsAttempt) -> Result<Landed> {
        if context.stop.is_cancelled() {
            return Err(stopped());
        }
        let mut landed = self.carry_as_it_is(context).await?;
        landed.is_decrypted = self.cipher.is_some();
        context.count(landed.size_bytes);
        Ok(landed)
    }

    async fn carry_as_it_is(&self, context: &HlsAttempt) -> Result<Landed> {
        let mut names = FreeNames::of(&self.key);
        if context.is_resumed()
            && let Some(archived) = earlier::find(context, self, &mut names).await?
        {
            context.promise(archived.size_bytes)?;
            return Ok(archived.into());
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

    /// What the metadata tells of where the piece came from: plain text is another piece than ciphertext.
    pub(super) fn origin(&self) -> String {
        let url = lasting(&self.url, self.is_shared);
        match self.cipher {
            Some(_) => format!("decrypted:{url}"),
            None => url,
        }
    }

    async fn try_once(&self, context: &HlsAttempt, names: &mut FreeNames) -> Result<Landed> {
        let secret = self.secret(context).await?;
        let tried = tokio::select! {
            biased;
            () = context.stop.cancelled() => return Err(stopped()),
            tried = self.try_small(context, names, secret.as_ref()) => tried?,
        };
        match tried {
            Tried::Landed(landed) => Ok(landed),
            // It stops by itself, and tidies up.
            Tried::Large(url, version) => {
                self.carry_large(context, url, version, names, secret).await
            }
        }
    }

    async fn secret(&self, context: &HlsAttempt) -> Result<Option<Secret>> {
        let Some((cipher, token)) = &self.cipher else {
            return Ok(None);
        };
        let key = context
            .secret_key(&cipher.key_url, cipher.is_relative, token)
            .await?;
        Ok(Some(Secret { key, iv: cipher.iv }))
    }

    /// Opens it; gives what comes out and what the origin tells of it.
    async fn open(
        &self,
        context: &HlsAttempt,
        secret: Option<&Secret>,
    ) -> Result<(Opened, FileVersion)> {
        let opened = context
            .open(&self.url, self.is_relative, &self.token)
            .await?;
        let told = FileVersion::of(&opened);
        let opened = match secret {
            Some(secret) => decrypt::plain(opened, secret)?,
            None => opened,
        };
        Ok((opened, told))
    }

    async fn try_small(
        &self,
        context: &HlsAttempt,
        names: &mut FreeNames,
        secret: Option<&Secret>,
    ) -> Result<Tried> {
        let part_bytes = context.engine.settings.part_size_bytes;
        let (opened, version) = self.open(context, secret).await?;
        let told = version.length;
        let url = opened.url.clone();
        // Its connection is free again before it is opened as a large one.
        if told.unwrap_or(self.range_end) > part_bytes {
            return Ok(Tried::Large(url, version));
        }
        let share = context.take(told.unwrap_or(part_bytes)).await?;
        let is_delimited = opened.is_delimited;
        let Some(payload) = self.read_body(opened, part_bytes).await? else {
            return Ok(Tried::Large(url, version));
        };
        if secret.is_none() && told.is_some_and(|told| told != payload.size_bytes) {
            return Err(Error::transient(
                Class::Unreachable,
                format!(
                    "the body was cut after {} of {} bytes",
                    payload.size_bytes,
                    told.unwrap_or_default()
                ),
            ));
        }
        let (payload, _share) = match is_delimited {
            true => (payload, share),
            false => self.read_again(context, secret, payload, share).await?,
        };
        context.promise(payload.size_bytes)?;
        let origin = self.origin();
        let ended = put(context, names, &payload, &origin, version.metadata()).await;
        if ended.is_err() {
            context.take_back(payload.size_bytes);
        }
        ended.map(Tried::Landed)
    }

    /// A body whose end is not marked looks whole when it is cut: it is read a second time, and what was read
    /// first is let go before, since its memory may be what another piece waits for with its connection.
    async fn read_again(
        &self,
        context: &HlsAttempt,
        secret: Option<&Secret>,
        first: Payload,
        share: (Share, Share),
    ) -> Result<(Payload, (Share, Share))> {
        let (size_bytes, crc64nvme) = (first.size_bytes, first.crc64nvme);
        drop((first, share));
        let (opened, _) = self.open(context, secret).await?;
        let share = context.take(size_bytes).await?;
        let again = self.read_body(opened, size_bytes).await?;
        let same =
            again.filter(|again| again.crc64nvme == crc64nvme && again.size_bytes == size_bytes);
        let payload = same.ok_or_else(|| {
            Error::transient(
                Class::Corrupt,
                "the origin tells no length and sent something else the second time",
            )
        })?;
        Ok((payload, share))
    }

    /// The whole body; `None` when it is longer than `most`.
    async fn read_body(&self, mut opened: Opened, most: u64) -> Result<Option<Payload>> {
        let mut part = PartBuilder::new();
        let mut check = ContentCheck::new(self.format());
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
        if self.role == UriRole::Key && payload.size_bytes != KEY_BYTES {
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
            UriRole::SessionData { is_raw: false } => Format::Json,
            _ => Format::Bin,
        }
    }

    async fn carry_large(
        &self,
        context: &HlsAttempt,
        url: SignedUrl,
        version: FileVersion,
        names: &mut FreeNames,
        secret: Option<Secret>,
    ) -> Result<Landed> {
        let key = names.key();
        let told = version.length;
        let mut attributes = context.attributes(&key, Some(&self.origin()));
        attributes.metadata.extend(version.metadata());
        let promised = told.unwrap_or(0);
        context.promise(promised)?;
        let owner = context.owner(Some(&self.origin()));
        let mut engine = context.engine.storing_as(attributes, owner);
        engine.settings.max_object_bytes = context.room() + promised;
        if let Some(secret) = secret {
            let source = engine.source.clone();
            engine.source = Arc::new(Deciphering { source, secret });
        }
        let job = Job {
            origin: Origin::Url(url),
            format: self.format(),
            size_bytes: None,
            checkpoint: None,
            key,
            ..context.job.clone()
        };
        let carried = carry_alone(&engine, &job, context).await;
        match carried {
            Ok(archived) => {
                context.promise(archived.size_bytes.saturating_sub(promised))?;
                Ok(archived.into())
            }
            Err(error) => {
                context.take_back(promised);
                // The guard has let it through already, so what was refused is its size.
                match error.class() == Class::Refused && told.is_none() {
                    true => Err(context.refuse_size()),
                    false => Err(error),
                }
            }
        }
    }
}

pub(super) fn stopped() -> Error {
    Error::transient(Class::Internal, "the attempt at the whole ladder has ended")
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
    context: &'a HlsAttempt,
) -> BoxFuture<'a, Result<Archived>> {
    Box::pin(async move {
        // How far a piece is, is nobody's business. That it moves is, since it may be the whole recording.
        let waits = context.waits.clone();
        let emit: crate::model::progress::Emit = Arc::new(move |_: ProgressEvent| waits.end());
        let ledger = PieceLedger {
            last: Mutex::default(),
            lease: &context.lease,
            waits: &context.waits,
        };
        let (allow_hosts, stop) = (&context.allow_hosts, &context.stop);
        let carried = engine.carry(job, allow_hosts, &ledger, &emit, stop).await;
        // Nobody would go on with a piece's upload: the ladder's next attempt begins it anew.
        let left = ledger
            .last
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let (Err(_), Some(checkpoint)) = (&carried, left) {
            engine.abandon(job, &checkpoint).await;
        }
        carried
    })
}

/// The ledger of a piece: the ladder's own is kept by who carries the ladder, and the lease is the job's.
struct PieceLedger<'a> {
    last: Mutex<Option<Checkpoint>>,
    lease: &'a LeaseDesk,
    waits: &'a Waits,
}

#[async_trait]
impl Ledger for PieceLedger<'_> {
    async fn save(&self, checkpoint: Option<&Checkpoint>, _: u64) -> Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = checkpoint.cloned();
        Ok(())
    }

    async fn is_held(&self) -> bool {
        self.lease.is_held().await
    }

    fn waits(&self) -> Waits {
        self.waits.clone()
    }
}
