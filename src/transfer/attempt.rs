//! One attempt at one artifact: open, carry part by part, check, seal.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::content::ObservedContent;
use super::digest::ObjectDigest;
use super::plan::Plan;
use super::progress::TransferProgress;
use super::resume::Earlier;
use super::{Engine, Ledger};
use crate::error::{Class, Error, Result};
use crate::model::job::Fingerprint;
use crate::model::progress::Emit;
use crate::model::{Archived, Checkpoint, Format, Job, Origin};
use crate::object::ObjectAttributes;
use crate::object::owned::Owner;
use crate::signed_url::SignedUrl;
use crate::source::{Opened, Waits};
use crate::transfer::download::fill::read_part;
use crate::transfer::download::lanes::{LaneTransfer, Start};
use crate::transfer::download::part::PartBuilder;
use crate::transfer::download::reader::{OriginReader, Remote, Stop};
use crate::transfer::free_name::FreeNames;
use crate::transfer::memory::shares::Memory;
use crate::transfer::upload::complete::Sealed;
use crate::transfer::upload::in_flight::PartsInFlight;
use crate::transfer::upload::open::OpenUpload;
use crate::transfer::upload::retry::{UploadRetry, wait_after};

/// Times that content is begun again within one attempt.
const MAX_RESTARTS: u32 = 3;

/// One attempt.
pub(super) struct TransferAttempt<'a> {
    pub(super) engine: &'a Engine,
    pub(super) job: &'a Job,
    /// Whose the object is.
    pub(super) owner: Owner,
    pub(super) ledger: &'a dyn Ledger,
    waits: Waits,
    pub(super) progress: TransferProgress<'a>,
    allow_hosts: &'a [String],
    /// What an earlier attempt left, until it was looked at.
    pub(super) earlier: Mutex<Option<Checkpoint>>,
    /// What was, or was about to be, put under a key.
    pub(super) sealed: Mutex<Option<(String, Fingerprint)>>,
    /// Whether it was looked what is under the key since the content was last begun.
    pub(super) is_looked: AtomicBool,
    /// Whether an upload that the bucket would not complete was given up for a new one.
    pub(super) has_given_up: AtomicBool,
    // Behind a lock only because cancellation drops `run` and then tidies up.
    pub(super) upload: Mutex<Option<OpenUpload>>,
}

impl<'a> TransferAttempt<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        job: &'a Job,
        allow_hosts: &'a [String],
        ledger: &'a dyn Ledger,
        emit: &'a Emit,
    ) -> TransferAttempt<'a> {
        TransferAttempt {
            engine,
            job,
            owner: match &engine.stored_as {
                Some(stored_as) => stored_as.1.clone(),
                None => Owner::of_job(job),
            },
            ledger,
            waits: ledger.waits(),
            progress: TransferProgress::new(job.id, emit),
            allow_hosts,
            earlier: Mutex::new(job.checkpoint.clone()),
            sealed: Mutex::new(sealed_earlier(job)),
            is_looked: AtomicBool::new(false),
            has_given_up: AtomicBool::new(false),
            upload: Mutex::new(None),
        }
    }

    pub(super) async fn run(&self) -> Result<Archived> {
        check_carriable(self.job)?;
        let mut names = FreeNames::of(&self.job.key);
        let mut opened = None;
        let mut restarts = 0;
        loop {
            self.is_looked.store(false, Ordering::Relaxed);
            // Where nothing of ours can be yet, the origin comes first, and a small object's own write tells whether
            // something else is there.
            if (!self.job.is_untouched() || restarts > 0)
                && let Some(archived) = self.find_free_or_ours(&mut names).await?
            {
                return Ok(self.told(archived));
            }
            let stop = match self.carry(&mut names, opened.take()).await {
                Ok(archived) => return Ok(self.told(archived)),
                Err(stop) => stop,
            };
            restarts += 1;
            match stop {
                Stop::Fail(error) => return self.look_before_loss(&mut names, error).await,
                Stop::Restart { why, .. } | Stop::Resend(why) if restarts > MAX_RESTARTS => {
                    return Err(why);
                }
                Stop::Restart { why, opened: again } => {
                    self.tell_restart(&why);
                    if again.is_none() {
                        wait_after(restarts).await;
                    }
                    opened = again;
                }
                Stop::Resend(why) => {
                    tracing::warn!(job = %self.job.id, "{}", why.full_message());
                    self.look_again_at_upload();
                    wait_after(restarts).await;
                    continue;
                }
                Stop::Taken => names.next()?,
            }
            self.abandon_upload().await;
        }
    }

    async fn carry(
        &self,
        names: &mut FreeNames,
        opened: Option<Box<Opened>>,
    ) -> Result<Archived, Stop> {
        match &self.job.origin {
            Origin::Url(url) => self.carry_url(url, names, opened).await,
            Origin::Inline(text) => Ok(self.carry_inline(text, names).await?),
            Origin::Lookup(_) | Origin::Event => Err(Stop::Fail(Error::internal(
                "carry an artifact whose bytes were not looked up",
            ))),
            Origin::Unusable(class, why) => Err(Stop::Fail(Error::new(*class, why.clone()))),
        }
    }

    async fn carry_inline(&self, text: &str, names: &mut FreeNames) -> Result<Archived> {
        let room = self.engine.budget.take(text.len() as u64);
        let _share = self.waits.during(room).await?;
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
        names: &mut FreeNames,
        opened: Option<Box<Opened>>,
    ) -> Result<Archived, Stop> {
        let remote = self.remote(url);
        if let Some(earlier) = self.find_earlier(&names.key()).await? {
            return self.go_on(remote, earlier).await;
        }
        let reader = OriginReader::open(remote, opened).await?;
        self.check_announced(&reader)?;
        self.progress.tell_now(0, reader.length());
        let plan = self.plan(&reader);
        let room = Memory::begin(&self.engine.budget, plan.part_len(1));
        let memory = self.waits.during(room).await?;
        match plan {
            Plan::Equal { .. } => {
                if let Some(archived) = self.look_before_upload(names).await? {
                    return Ok(archived);
                }
                let key = names.key();
                let upload_id = self
                    .create_upload(
                        &key,
                        plan,
                        reader.version().clone(),
                        self.can_split(&reader),
                    )
                    .await?;
                let start = self.start(remote, plan, &reader, memory, (&key, &upload_id));
                self.carry_parts(LaneTransfer::new(self, start), &key, Some(reader))
                    .await
            }
            Plan::Single { .. } | Plan::Growing { .. } => {
                self.carry_growing(remote, names, plan, reader, memory)
                    .await
            }
        }
    }

    /// Content that may turn out to be small: its first part decides.
    async fn carry_growing(
        &self,
        remote: Remote<'_>,
        names: &mut FreeNames,
        plan: Plan,
        mut reader: OriginReader<'_>,
        memory: Memory,
    ) -> Result<Archived, Stop> {
        let target = plan.part_len(1);
        let is_single = matches!(plan, Plan::Single { .. });
        let total = reader.length();
        let tell = |done| self.progress.tell(done, total);
        let (first, cover) = read_part(
            &mut reader,
            target,
            is_single,
            &memory,
            &Default::default(),
            tell,
        )
        .await?;
        if !is_single && first.size_bytes == target {
            if let Some(archived) = self.look_before_upload(names).await? {
                return Ok(archived);
            }
            let key = names.key();
            let upload_id = self
                .create_upload(
                    &key,
                    plan,
                    reader.version().clone(),
                    self.can_split(&reader),
                )
                .await?;
            let start = self.start(remote, plan, &reader, memory, (&key, &upload_id));
            let mut lanes = LaneTransfer::new(self, start);
            lanes.send_first(first, cover)?;
            return self.carry_parts(lanes, &key, Some(reader)).await;
        }
        let mut content = self.content(total);
        content.take(0, &first)?;
        let size_bytes = first.size_bytes;
        self.check_content(
            remote,
            reader.version(),
            reader.is_end_certain(),
            &mut content,
            (size_bytes, first.crc64nvme),
        )
        .await?;
        let mut digest = content.digest(&[]);
        digest.append(first.crc64nvme, size_bytes);
        Ok(self.put(names, &first, &Sealed::of(&digest)).await?)
    }

    /// Goes on where an earlier attempt stopped.
    async fn go_on<'u>(&'u self, remote: Remote<'u>, earlier: Earlier) -> Result<Archived, Stop> {
        let key = earlier.key.clone();
        let part_bytes = earlier.plan.part_len(1);
        let room = Memory::begin(&self.engine.budget, part_bytes);
        let memory = self.waits.during(room).await?;
        let mut content = self.content(earlier.version.length);
        content.check.restore(earlier.check.as_deref());
        let start = Start {
            remote,
            version: earlier.version,
            is_end_certain: true,
            plan: earlier.plan,
            spans: earlier.spans,
            content,
            memory,
            uploads: self.uploads(&key, &earlier.upload_id),
            most_lanes: self.engine.settings.lanes,
            done_bytes: earlier.done_bytes,
        };
        self.carry_parts(LaneTransfer::new(self, start), &key, None)
            .await
    }

    async fn carry_parts<'u>(
        &'u self,
        lanes: LaneTransfer<'u>,
        key: &str,
        reader: Option<OriginReader<'u>>,
    ) -> Result<Archived, Stop> {
        let remote = lanes.remote();
        let (mut content, version, is_end_certain) = lanes.run(reader).await?;
        let (upload_id, parts) = self.finished_parts()?;
        let mut whole = ObjectDigest::new(false);
        for part in &parts {
            whole.append(part.crc64nvme, part.size_bytes);
        }
        let found = (whole.size_bytes(), whole.crc64nvme());
        if let Some(length) = version.length.filter(|length| *length != found.0) {
            return Err(Stop::Fail(Error::transient(
                Class::Corrupt,
                format!(
                    "the parts have {} bytes and the origin tells {length}",
                    found.0
                ),
            )));
        }
        self.check_content(remote, &version, is_end_certain, &mut content, found)
            .await?;
        let sealed = Sealed::of(&content.digest(&parts));
        let archived = self.complete(key, &upload_id, &parts, &sealed).await?;
        self.take_upload();
        Ok(archived)
    }

    fn start<'u>(
        &'u self,
        remote: Remote<'u>,
        plan: Plan,
        reader: &OriginReader<'_>,
        memory: Memory,
        (key, upload_id): (&str, &str),
    ) -> Start<'u> {
        Start {
            remote,
            version: reader.version().clone(),
            is_end_certain: reader.is_end_certain(),
            plan,
            spans: plan.spans(&Default::default()),
            content: self.content(reader.length()),
            memory,
            uploads: self.uploads(key, upload_id),
            most_lanes: if self.can_split(reader) {
                self.engine.settings.lanes
            } else {
                1
            },
            done_bytes: 0,
        }
    }

    fn uploads(&self, key: &str, upload_id: &str) -> PartsInFlight {
        let patience = self.patience();
        PartsInFlight::new(self.engine.objects.clone(), key, upload_id, patience)
    }

    /// How long the bucket is tried.
    pub(super) fn patience(&self) -> UploadRetry {
        UploadRetry::new(self.engine, self.job.deadline)
    }

    /// Whether requests may begin in the middle of this content.
    fn can_split(&self, reader: &OriginReader<'_>) -> bool {
        reader.is_resumable() && !self.needs_order()
    }

    pub(super) fn remote<'u>(&'u self, url: &'u SignedUrl) -> Remote<'u> {
        Remote {
            source: &*self.engine.source,
            url,
            allow_hosts: self.allow_hosts,
            deadline: self.job.deadline,
            max_bytes: self.engine.settings.max_object_bytes,
            waits: &self.waits,
        }
    }

    fn content(&self, length: Option<u64>) -> ObservedContent {
        ObservedContent::new(self.job.format, length, self.engine.settings.sha256)
    }

    /// Whether the content's parts must come in order, and from the first.
    pub(super) fn needs_order(&self) -> bool {
        ObservedContent::needs_order(self.job.format, self.engine.settings.sha256)
    }

    /// Compares what event and origin announce before a byte is read.
    fn check_announced(&self, reader: &OriginReader<'_>) -> Result<()> {
        match (self.job.size_bytes, reader.length()) {
            (Some(told), Some(length)) if told != length => Err(wrong_size(told, length)),
            _ => Ok(()),
        }
    }

    fn plan(&self, reader: &OriginReader<'_>) -> Plan {
        let settings = &self.engine.settings;
        Plan::new(
            reader.length(),
            settings.part_size_bytes,
            settings.max_object_bytes,
        )
    }

    /// What the object is stored with.
    pub(super) fn attributes(&self) -> ObjectAttributes {
        if let Some(stored_as) = &self.engine.stored_as {
            return stored_as.0.clone();
        }
        ObjectAttributes {
            content_type: self.job.format.content_type().to_owned(),
            metadata: self.owner.metadata(),
            disposition: self.disposition(),
            is_rewritten: false,
        }
    }

    /// The name is ours: letters, digits, dots and dashes.
    fn disposition(&self) -> Option<String> {
        let kind = self.engine.settings.disposition.as_ref()?;
        Some(format!("{kind}; filename=\"{}\"", self.job.name))
    }

    pub(super) fn told(&self, archived: Archived) -> Archived {
        let size = archived.size_bytes;
        self.progress.tell_now(size, Some(size));
        archived
    }
}

/// What an earlier attempt was about to put, and where.
fn sealed_earlier(job: &Job) -> Option<(String, Fingerprint)> {
    let checkpoint = job.checkpoint.as_ref()?;
    let key = checkpoint.key.as_ref().unwrap_or(&job.key);
    Some((key.clone(), checkpoint.sealed.clone()?))
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

pub(super) fn wrong_size(told: u64, real: u64) -> Error {
    Error::new(
        Class::Corrupt,
        format!("the event tells {told} bytes and the origin sends {real}"),
    )
}
