//! A ZIP of playlists and segments, unpacked beside itself while it is read: nothing touches the disk.
//!
//! It is read from the bucket, after it was archived as it is: its URL may be dead by then. Names are kept, since the
//! playlists inside point at them, but only names that are plain relative paths are taken.

use bytes::Bytes;
use futures::{Stream, stream};

use super::context::HlsAttempt;
use super::documents::{JSON, list_of};
use super::identity::lasting;
use super::piece::Landed;
use super::put::{payload_of, put, put_over};
use super::room::Room;
use super::unzip::{self, Step};
use crate::error::{Class, Error, Result};
use crate::format::zip::{MAX_ENTRIES, told_entries};
use crate::model::job::{Fingerprint, FinishedPart};
use crate::model::{Archived, Job};
use crate::object::owned::{
    OwnedObject, UnderKey, UploadEnd, complete_owned, missing, replacing, wrong,
};
use crate::object::{Condition, encode_crc64nvme};
use crate::signed_url::SignedUrl;
use crate::transfer::digest::ObjectDigest;
use crate::transfer::download::part::PartBuilder;
use crate::transfer::free_name::FreeNames;
use crate::transfer::upload::retry::{TRIES, wait_after};
use crate::transfer::upload::single_put::check_lease;
use crate::transfer::{Engine, Ledger};

/// The longest path of an entry: with its folder it fits into a key.
const MAX_PATH_BYTES: usize = 400;

/// Names in the folder that tell of what is in it: an entry must not be taken for one of them.
const OUR_NAMES: [&str; 2] = ["resources.json", "missing.json"];

/// The end of an archive: its last record, which may have a comment (APPNOTE.TXT 4.3.16).
const TAIL_BYTES: u64 = 22 + 65_535;

/// Bytes of the archive that are asked of the bucket at once.
const RANGE_BYTES: u64 = 4 * 1024 * 1024;

/// Unpacks the archive that came from `url` and lies under `zip`'s key into a folder of the same name.
pub(in crate::transfer) async fn unpack(
    engine: &Engine,
    job: &Job,
    url: &SignedUrl,
    zip: &Archived,
    allow_hosts: &[String],
    ledger: &dyn Ledger,
) -> Result<()> {
    let room = Room::empty(&engine.budget);
    let context = HlsAttempt::new(engine, job, allow_hosts, &zip.key, room);
    let context = context.declaring(ledger.waits());
    let list_key = format!("{}/resources.json", context.folder);
    if let UnderKey::Whole(_) = context.find(&list_key, None).await? {
        return Ok(());
    }
    // All that it needs, at once: it waits for nothing more while it holds this.
    let needed = engine.settings.part_size_bytes + RANGE_BYTES + unzip::WAITING_BYTES;
    let needed = needed.min(engine.settings.memory_bytes);
    let _share = context.waits.during(engine.budget.take(needed)).await?;
    let mut unpacking = Unpacking {
        context: &context,
        origin: &lasting(url.expose(), false),
        ledger,
        open: None,
        landed: Vec::new(),
        notes: Vec::new(),
    };
    let ended = unpacking.run(zip).await;
    unpacking.abandon().await;
    ended.map_err(|error| match error.is_transient() {
        true => error,
        false => Error::new(
            Class::Partial,
            format!(
                "unpack {}, which is archived as it is: {}",
                zip.key,
                error.full_message()
            ),
        ),
    })?;
    let list = list_of(&context, unpacking.landed.iter(), &unpacking.notes, &[])?;
    let payload = payload_of(list);
    put_over(&context, &list_key, &payload, JSON).await?;
    Ok(())
}

struct Unpacking<'a> {
    context: &'a HlsAttempt,
    origin: &'a str,
    ledger: &'a dyn Ledger,
    open: Option<EntryUpload>,
    landed: Vec<Landed>,
    notes: Vec<String>,
}

/// The entry that is being put.
struct EntryUpload {
    key: String,
    part: PartBuilder,
    digest: ObjectDigest,
    upload_id: Option<String>,
    parts: Vec<FinishedPart>,
}

/// The archive as the bucket has it, range by range.
fn packed<'a>(
    context: &'a HlsAttempt,
    zip: &'a Archived,
) -> impl Stream<Item = Result<Bytes>> + 'a {
    stream::try_unfold(0, move |start| async move {
        let length = RANGE_BYTES.min(zip.size_bytes - start);
        if length == 0 {
            return Ok(None);
        }
        let bytes = read_range(context, zip, start, length).await?;
        Ok(Some((bytes, start + length)))
    })
}

async fn read_range(
    context: &HlsAttempt,
    zip: &Archived,
    start: u64,
    length: u64,
) -> Result<Bytes> {
    let objects = &context.engine.objects;
    let mut tried = 0;
    loop {
        tried += 1;
        let read = objects.get_range(&zip.key, zip.etag.as_deref(), start, length);
        match read.await {
            Err(error) if error.is_transient() && tried < TRIES => wait_after(tried).await,
            ended => return ended,
        }
    }
}

impl Unpacking<'_> {
    async fn run(&mut self, zip: &Archived) -> Result<()> {
        // Before any of them is written. Who told less than there are is found out on the way.
        let length = zip.size_bytes.min(TAIL_BYTES);
        let tail = read_range(self.context, zip, zip.size_bytes - length, length).await?;
        if told_entries(&tail).is_some_and(|told| usize::from(told) > MAX_ENTRIES) {
            return Err(unzip::too_many_entries());
        }
        let (send, mut steps) = unzip::steps();
        let unzipping = unzip::unzip(packed(self.context, zip), send);
        let taking = async {
            while let Some(step) = steps.recv().await {
                self.take(step).await?;
            }
            Ok(())
        };
        tokio::try_join!(unzipping, taking).map(|((), ())| ())
    }

    async fn take(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Begin(name) => self.begin(&name).await,
            Step::Data(bytes) => self.data(bytes).await,
            Step::End => self.end().await,
        }
    }

    async fn begin(&mut self, name: &[u8]) -> Result<()> {
        let Some(path) = safe_path(name)? else {
            return Ok(());
        };
        if OUR_NAMES.iter().any(|ours| path.eq_ignore_ascii_case(ours)) {
            let note = format!("{path} is left in the archive: the name is the harvester's own");
            self.notes.push(note);
            return Ok(());
        }
        self.open = Some(EntryUpload {
            key: format!("{}/{path}", self.context.folder),
            part: PartBuilder::new(),
            digest: ObjectDigest::new(false),
            upload_id: None,
            parts: Vec::new(),
        });
        Ok(())
    }

    async fn data(&mut self, bytes: Vec<u8>) -> Result<()> {
        let part_bytes = self.context.engine.settings.part_size_bytes;
        let Some(entry) = &mut self.open else {
            return Ok(());
        };
        self.context.promise(bytes.len() as u64)?;
        entry.part.push(bytes.into());
        if entry.part.size_bytes() >= part_bytes {
            entry.send_part(self.context, self.origin).await?;
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        let Some(entry) = &mut self.open else {
            return Ok(());
        };
        let landed = match &entry.upload_id {
            None => {
                let part = std::mem::replace(&mut entry.part, PartBuilder::new());
                let payload = part.finish();
                let mut names = FreeNames::of(&entry.key);
                put(self.context, &mut names, &payload, self.origin, Vec::new()).await?
            }
            Some(_) => {
                entry
                    .complete(self.context, self.origin, self.ledger)
                    .await?
            }
        };
        let is_renamed = landed.key != entry.key;
        self.open = None;
        if is_renamed {
            // Playlists of the archive name it as it was.
            return Err(Error::new(
                Class::UploadFailed,
                format!("somebody else's object has the name of {}", landed.key),
            ));
        }
        self.landed.push(landed);
        self.context.waits.end();
        Ok(())
    }

    /// Aborts an upload that was begun. A failure is only logged: what led here is told.
    async fn abandon(&mut self) {
        let Some(EntryUpload {
            key,
            upload_id: Some(id),
            ..
        }) = self.open.take()
        else {
            return;
        };
        self.context.engine.abort_upload(&key, &id).await;
    }
}

impl EntryUpload {
    async fn send_part(&mut self, context: &HlsAttempt, origin: &str) -> Result<()> {
        let objects = &context.engine.objects;
        let upload_id = match &self.upload_id {
            Some(id) => id.clone(),
            None => {
                let attributes = context.attributes(&self.key, Some(origin));
                let id = objects.create_upload(&self.key, &attributes).await?;
                self.upload_id.insert(id).clone()
            }
        };
        let payload = std::mem::replace(&mut self.part, PartBuilder::new()).finish();
        self.digest.append(payload.crc64nvme, payload.size_bytes);
        let number = u32::try_from(self.parts.len()).unwrap_or(u32::MAX - 1) + 1;
        let part = objects
            .upload_part(&self.key, &upload_id, number, &payload)
            .await?;
        self.parts.push(part);
        context.waits.end();
        Ok(())
    }

    async fn complete(
        &mut self,
        context: &HlsAttempt,
        origin: &str,
        ledger: &dyn Ledger,
    ) -> Result<Landed> {
        if self.part.size_bytes() > 0 {
            self.send_part(context, origin).await?;
        }
        let objects = &*context.engine.objects;
        let upload_id = self.upload_id.clone().unwrap_or_default();
        let expected = Fingerprint {
            size_bytes: self.digest.size_bytes(),
            crc64nvme: encode_crc64nvme(self.digest.crc64nvme()),
            sha256: None,
        };
        let owner = context.owner(Some(origin));
        let mut condition = Condition::Absent;
        let mut tried = 0;
        loop {
            check_lease(ledger).await?;
            tried += 1;
            let object = OwnedObject {
                key: &self.key,
                owner: &owner,
                expected: &expected,
                condition: &condition,
            };
            let upload = UploadEnd {
                upload_id: &upload_id,
                parts: &self.parts,
                crc64nvme: self.digest.crc64nvme(),
            };
            let ended = complete_owned(objects, object, upload).await;
            let failure = match ended.map(|written| written.found) {
                Ok(UnderKey::Whole(archived)) => return Ok(archived.into()),
                Ok(UnderKey::Others) => {
                    return Err(Error::new(
                        Class::UploadFailed,
                        format!("somebody else's object has the name of {}", self.key),
                    ));
                }
                Ok(UnderKey::Wrong(info)) => {
                    condition = replacing(&self.key, &info)?;
                    wrong(&self.key, &info, &expected, false)
                }
                Ok(UnderKey::Nothing | UnderKey::Unproven(_)) => missing(&self.key),
                Err(error) => error,
            };
            if !failure.is_transient() || tried >= TRIES {
                return Err(failure);
            }
            wait_after(tried).await;
        }
    }
}

/// The path of an entry; `None` for a folder.
///
/// # Errors
/// `refused` when it is no plain relative path.
fn safe_path(name: &[u8]) -> Result<Option<&str>> {
    let refused = || {
        Error::new(
            Class::Refused,
            format!(
                "its entry `{}` is no plain relative path",
                String::from_utf8_lossy(&name[..name.len().min(80)]).escape_debug()
            ),
        )
    };
    let path = std::str::from_utf8(name).map_err(|_| refused())?;
    let (path, is_folder) = match path.strip_suffix('/') {
        Some(path) => (path, true),
        None => (path, false),
    };
    let is_safe = path.len() <= MAX_PATH_BYTES
        && path.split('/').all(|part| {
            !part.is_empty()
                && part.bytes().any(|b| b != b'.')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-+=@ ".contains(&b))
        });
    match (is_safe, is_folder) {
        (false, _) => Err(refused()),
        (true, true) => Ok(None),
        (true, false) => Ok(Some(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f53_names_that_leave_their_folder_are_refused() {
        for name in [
            "../x", "a/../x", "/x", "a//x", "a\\..\\x", "C:x", ".", "..", "", "a/./b", "x\0", "é",
            "a\n",
        ] {
            assert!(safe_path(name.as_bytes()).is_err(), "{name:?}");
        }
        assert!(safe_path(b"\xff").is_err());
        assert!(safe_path("x".repeat(401).as_bytes()).is_err());
        assert_eq!(
            safe_path(b"vod/layer 1.m3u8").unwrap(),
            Some("vod/layer 1.m3u8")
        );
        assert_eq!(safe_path(b"vod/").unwrap(), None);
    }
}
