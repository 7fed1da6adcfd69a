//! One attempt at one artifact: open, carry part by part, check, seal.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::budget::Share;
use super::digest::{ObjectDigest, PartDigest};
use super::names::Names;
use super::part::PartBuilder;
use super::plan::{MAX_PARTS, Plan};
use super::progress::Progress;
use super::reader::{Reader, Stop};
use super::seal::Sealed;
use super::upload::Uploads;
use super::verify::{Check, Proof};
use super::{Engine, JOB_METADATA_KEY, Ledger};
use crate::error::{Class, Error, Result};
use crate::model::progress::Emit;
use crate::model::{Archived, Format, Job, Origin};
use crate::object::{Attributes, Payload};
use crate::signed_url::SignedUrl;
use crate::source::Opened;

/// Times that content is begun again within one attempt.
const MAX_RESTARTS: u32 = 3;

/// Memory that one artifact's parts may take, however many lanes there are.
const ARTIFACT_BYTES: u64 = 64 * 1024 * 1024;

/// How long tidying up after a failure may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(20);

/// Aborts of one upload: parts that were on their way may land after the first.
const ABORT_TRIES: u32 = 3;

/// One attempt.
pub(super) struct Attempt<'a> {
    pub(super) engine: &'a Engine,
    pub(super) job: &'a Job,
    pub(super) ledger: &'a dyn Ledger,
    allow_hosts: &'a [String],
    progress: Progress<'a>,
    // Behind a lock only because cancellation drops `run` and then tidies up.
    upload: Mutex<Option<OpenUpload>>,
}

/// An upload that is neither complete nor aborted.
struct OpenUpload {
    key: String,
    id: String,
}

/// What is learnt of the content as it passes.
struct Content {
    check: Check,
    digest: ObjectDigest,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        job: &'a Job,
        allow_hosts: &'a [String],
        ledger: &'a dyn Ledger,
        emit: &'a Emit,
    ) -> Attempt<'a> {
        Attempt {
            engine,
            job,
            ledger,
            allow_hosts,
            progress: Progress::new(job.id, emit),
            upload: Mutex::new(None),
        }
    }

    pub(super) async fn run(&self) -> Result<Archived> {
        check_carriable(self.job)?;
        let mut names = Names::of(&self.job.key);
        let mut opened = None;
        let mut restarts = 0;
        loop {
            if let Some(archived) = self.find_free_or_ours(&mut names).await? {
                return Ok(self.told(archived));
            }
            let stop = match self.carry(&mut names, opened.take()).await {
                Ok(archived) => return Ok(self.told(archived)),
                Err(stop) => stop,
            };
            restarts += 1;
            match stop {
                Stop::Fail(error) => return Err(error),
                Stop::Restart { why, .. } if restarts > MAX_RESTARTS => return Err(why),
                Stop::Restart { why, opened: again } => {
                    tracing::debug!(job = %self.job.id, cause = %why.full_message(), "beginning again");
                    opened = again;
                }
                Stop::Taken => names.next()?,
            }
            self.abandon_upload().await;
        }
    }

    /// Goes to the first name that nobody else has. `Some` when our own object is there already: an
    /// earlier attempt was killed between sealing and settling.
    async fn find_free_or_ours(&self, names: &mut Names) -> Result<Option<Archived>> {
        loop {
            let key = names.key();
            let Some(info) = self.engine.objects.head(&key).await? else {
                return Ok(None);
            };
            let is_expected_size = self
                .job
                .size_bytes
                .is_none_or(|size_bytes| size_bytes == info.size_bytes);
            if !self.is_ours(&info) || !is_expected_size {
                names.next()?;
                continue;
            }
            // Without a checksum to show it is carried again, and found equal when it is put.
            return Ok(info.crc64nvme.map(|crc64nvme| Archived {
                key,
                size_bytes: info.size_bytes,
                crc64nvme,
                sha256: None,
                etag: info.etag,
                version_id: info.version_id,
            }));
        }
    }

    async fn carry(
        &self,
        names: &mut Names,
        opened: Option<Box<Opened>>,
    ) -> Result<Archived, Stop> {
        match &self.job.origin {
            Origin::Url(url) => self.carry_url(url, names, opened).await,
            Origin::Inline(text) => Ok(self.carry_inline(text, names).await?),
            Origin::Lookup(_) => Err(Stop::Fail(Error::internal(
                "carry an artifact whose URL was not looked up",
            ))),
            Origin::Unusable(class, why) => Err(Stop::Fail(Error::new(*class, why.clone()))),
        }
    }

    async fn carry_inline(&self, text: &str, names: &mut Names) -> Result<Archived> {
        let _share = self.engine.budget.take(text.len() as u64).await?;
        let mut part = PartBuilder::new();
        let mut digest = ObjectDigest::new(self.engine.settings.sha256);
        digest.update_sha256(text.as_bytes());
        part.push(Bytes::copy_from_slice(text.as_bytes()));
        let payload = part.finish();
        digest.append(payload.crc64nvme, payload.size_bytes);
        self.put(names, &payload, &Sealed::of(&digest)).await
    }

    async fn carry_url(
        &self,
        url: &SignedUrl,
        names: &mut Names,
        opened: Option<Box<Opened>>,
    ) -> Result<Archived, Stop> {
        let mut reader = self.open(url, opened).await?;
        self.check_announced(&reader)?;
        self.progress.tell_now(0, reader.length());
        let mut content = Content {
            check: Check::new(self.job.format),
            digest: ObjectDigest::new(self.engine.settings.sha256),
        };
        let plan = self.plan(&reader);
        let share = self.engine.budget.take(plan.part_len(1)).await?;
        let first = self
            .read_part(&mut reader, &mut content, plan.part_len(1))
            .await?;
        let is_whole = matches!(plan, Plan::Single { .. }) || first.size_bytes < plan.part_len(1);
        if is_whole {
            self.check_end(&mut reader).await?;
            self.check_content(url, reader.is_end_certain(), &mut content)
                .await?;
            let sealed = Sealed::of(&content.digest);
            return Ok(self.put(names, &first, &sealed).await?);
        }
        self.carry_parts(url, &names.key(), plan, reader, content, (first, share))
            .await
    }

    async fn carry_parts(
        &self,
        url: &SignedUrl,
        key: &str,
        plan: Plan,
        mut reader: Reader<'_>,
        mut content: Content,
        (first, share): (Payload, Share),
    ) -> Result<Archived, Stop> {
        let upload_id = self.create_upload(key).await?;
        let mut uploads = Uploads::new(
            self.engine.objects.clone(),
            key,
            &upload_id,
            self.lanes(&plan),
        );
        uploads.send(1, first, share);
        for number in 2..=MAX_PARTS {
            let target = plan.part_len(number);
            if target == 0 {
                break;
            }
            uploads.make_room().await?;
            self.save_progress(uploads.acknowledged_bytes()).await?;
            let share = self.engine.budget.take(target).await?;
            let part = self.read_part(&mut reader, &mut content, target).await?;
            let is_last = part.size_bytes < target;
            if part.size_bytes > 0 {
                uploads.send(number, part, share);
            }
            if is_last {
                break;
            }
        }
        self.check_end(&mut reader).await?;
        self.check_content(url, reader.is_end_certain(), &mut content)
            .await?;
        let parts = uploads.finish().await?;
        let sealed = Sealed::of(&content.digest);
        let archived = self.complete(key, &upload_id, &parts, &sealed).await?;
        self.take_upload();
        Ok(archived)
    }

    async fn open<'u>(
        &'u self,
        url: &'u SignedUrl,
        opened: Option<Box<Opened>>,
    ) -> Result<Reader<'u>> {
        let max_bytes = self.engine.settings.max_object_bytes;
        let source = &*self.engine.source;
        Reader::open(source, url, self.allow_hosts, max_bytes, opened).await
    }

    /// Compares what event and origin announce before a byte is read.
    fn check_announced(&self, reader: &Reader<'_>) -> Result<()> {
        match (self.job.size_bytes, reader.length()) {
            (Some(told), Some(length)) if told != length => Err(wrong_size(told, length)),
            _ => Ok(()),
        }
    }

    fn plan(&self, reader: &Reader<'_>) -> Plan {
        let settings = &self.engine.settings;
        Plan::new(
            reader.length(),
            settings.part_size_bytes,
            settings.max_object_bytes,
        )
    }

    fn lanes(&self, plan: &Plan) -> usize {
        let fitting = ARTIFACT_BYTES / plan.part_len(1).max(1);
        let lanes = u64::from(self.engine.settings.lanes).min(fitting).max(1);
        usize::try_from(lanes).unwrap_or(1)
    }

    /// Reads up to `target` bytes; fewer only at the end.
    async fn read_part(
        &self,
        reader: &mut Reader<'_>,
        content: &mut Content,
        target: u64,
    ) -> Result<Payload, Stop> {
        let mut part = PartBuilder::new();
        while part.size_bytes() < target {
            let Some(mut chunk) = reader.next().await? else {
                break;
            };
            let room = usize::try_from(target - part.size_bytes()).unwrap_or(usize::MAX);
            if chunk.len() > room {
                reader.unread(chunk.split_off(room));
            }
            content.check.feed(&chunk)?;
            content.digest.update_sha256(&chunk);
            part.push(chunk);
            self.progress.tell(reader.position(), reader.length());
        }
        let payload = part.finish();
        content.digest.append(payload.crc64nvme, payload.size_bytes);
        Ok(payload)
    }

    /// Nothing may come after the last part.
    async fn check_end(&self, reader: &mut Reader<'_>) -> Result<(), Stop> {
        match reader.next().await? {
            None => Ok(()),
            Some(_) => Err(Stop::Fail(Error::new(
                Class::Refused,
                format!("the object does not fit into {MAX_PARTS} parts"),
            ))),
        }
    }

    /// Judges the content as a whole, before it gets its final name.
    async fn check_content(
        &self,
        url: &SignedUrl,
        is_end_certain: bool,
        content: &mut Content,
    ) -> Result<(), Stop> {
        let size_bytes = content.digest.size_bytes();
        if let Some(told) = self.job.size_bytes.filter(|told| *told != size_bytes) {
            return Err(wrong_size(told, size_bytes).into());
        }
        if size_bytes == 0 {
            return match self.job.size_bytes {
                Some(0) => Ok(()),
                _ => Err(Stop::Fail(Error::new(
                    Class::Corrupt,
                    "the origin sent an empty file",
                ))),
            };
        }
        let proof = content.check.finish()?;
        let is_proven = is_end_certain || self.job.size_bytes.is_some() || proof == Proof::Whole;
        if !is_proven {
            self.compare_with_second_reading(url, &content.digest)
                .await?;
        }
        Ok(())
    }

    /// A body without a length that was cut looks like one that ended: it is read a second time.
    async fn compare_with_second_reading(
        &self,
        url: &SignedUrl,
        first: &ObjectDigest,
    ) -> Result<(), Stop> {
        let max_bytes = self.engine.settings.max_object_bytes;
        let source = &*self.engine.source;
        let mut reader = Reader::open_again(source, url, self.allow_hosts, max_bytes).await?;
        let mut digest = PartDigest::new();
        while let Some(chunk) = reader.next().await? {
            digest.update(&chunk);
        }
        if reader.position() == first.size_bytes() && digest.crc64nvme() == first.crc64nvme() {
            return Ok(());
        }
        Err(Stop::Fail(Error::transient(
            Class::Corrupt,
            format!(
                "the origin tells no length, and sent {} bytes the first time and {} the second",
                first.size_bytes(),
                reader.position()
            ),
        )))
    }

    async fn create_upload(&self, key: &str) -> Result<String> {
        let objects = &self.engine.objects;
        let id = objects.create_upload(key, &self.attributes()).await?;
        let upload = OpenUpload {
            key: key.to_owned(),
            id: id.clone(),
        };
        *self.upload.lock().unwrap_or_else(PoisonError::into_inner) = Some(upload);
        Ok(id)
    }

    async fn save_progress(&self, acknowledged_bytes: u64) -> Result<()> {
        if self.progress.is_save_due() {
            self.ledger.save(None, acknowledged_bytes).await?;
        }
        Ok(())
    }

    /// What the object is stored with.
    pub(super) fn attributes(&self) -> Attributes {
        if let Some(attributes) = &self.engine.attributes {
            return Attributes::clone(attributes);
        }
        let source = self.job.source.chars().filter(char::is_ascii_graphic);
        let metadata = [
            (JOB_METADATA_KEY, self.job.id.to_string()),
            ("harvester-provider", self.job.provider.to_string()),
            ("harvester-source", source.collect()),
        ];
        Attributes {
            content_type: self.job.format.content_type().to_owned(),
            metadata: metadata
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        }
    }

    fn told(&self, archived: Archived) -> Archived {
        let size = archived.size_bytes;
        self.progress.tell_now(size, Some(size));
        archived
    }

    fn take_upload(&self) -> Option<OpenUpload> {
        self.upload
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Aborts an upload that was not completed. A failure is only logged: what led here is told.
    pub(super) async fn abandon_upload(&self) {
        let Some(OpenUpload { key, id }) = self.take_upload() else {
            return;
        };
        let objects = &self.engine.objects;
        let abort = async {
            for _ in 0..ABORT_TRIES {
                objects.abort(&key, &id).await?;
                let parts = objects.list_parts(&key, &id).await?;
                if parts.is_none_or(|parts| parts.is_empty()) {
                    return Ok(());
                }
            }
            Err(Error::internal("parts keep arriving"))
        };
        let ended = tokio::time::timeout(ABORT_TIMEOUT, abort)
            .await
            .unwrap_or_else(|_| Err(Error::internal("the bucket does not answer")));
        if let Err(error) = ended {
            tracing::warn!(key, cause = %error.full_message(), "an unfinished upload is left for the sweep");
        }
    }
}

/// A playlist alone is no recording, and what it names can't be found without its URL.
fn check_carriable(job: &Job) -> Result<()> {
    if job.format == Format::M3u8 {
        return Err(Error::invalid(
            "archive an HLS playlist that came without its URL",
        ));
    }
    Ok(())
}

fn wrong_size(told: u64, real: u64) -> Error {
    Error::new(
        Class::Corrupt,
        format!("the event tells {told} bytes and the origin sends {real}"),
    )
}
