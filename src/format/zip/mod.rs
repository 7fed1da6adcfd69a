//! A ZIP archive read as its bytes pass (APPNOTE.TXT 6.3.10): every entry is inflated and its checksum
//! compared, then the directory at the end with what was seen. Nothing is held but the directory.
//!
//! Since entries are read where they really are, and the directory must name exactly those, no two of them
//! can overlap or share a name. Names are data: they are compared and handed on, never used here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crc_fast::CrcAlgorithm::Crc32IsoHdlc;
use miniz_oxide::DataFormat;
use miniz_oxide::inflate::stream::InflateState;

mod open;
mod record;
mod stored;

use crate::format::zip::open::{EntryTotals, OpenEntry};
pub use crate::format::zip::record::told_entries;
use crate::format::zip::record::{
    CENTRAL, DESCRIPTOR, END, END_64, LOCAL, real_numbers, real_sizes, record_length, u16_at,
    u32_at, u64_at,
};
use crate::format::zip::stored::Seeking;

/// Entries that are read of one archive: a ladder of four layers and two-second segments of some hours. What is known of
/// each is held until the directory was read.
pub const MAX_ENTRIES: usize = 20_000;

/// Bytes that the names of all entries may have: they are held until the directory was read.
const MAX_NAMES_BYTES: usize = 16 * 1024 * 1024;

/// What passes.
#[derive(Debug, PartialEq, Eq)]
pub enum ZipEvent<'a> {
    /// An entry begins; its name as it is written.
    Begin(&'a [u8]),
    /// Its next bytes, inflated.
    Data(&'a [u8]),
    /// It has ended, and its checksum is right.
    End,
}

/// An entry as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ZipEntry {
    name: Arc<[u8]>,
    crc32: u32,
    packed_bytes: u64,
    bytes: u64,
    is_checked: bool,
    is_listed: bool,
}

enum ZipState {
    /// A record is being collected.
    Record,
    Data(Box<OpenEntry>),
    /// The sizes behind an entry that did not tell them before.
    Descriptor(Box<OpenEntry>),
    /// A stored entry whose length only its descriptor tells, wherever that is.
    Stored(Box<OpenEntry>, Seeking),
    /// Behind the end record.
    Done,
    /// An entry whose end only the directory tells, or one too many: what follows is not read in passing.
    Opaque,
}

/// The walk over one archive.
pub struct ZipWalk {
    state: ZipState,
    record: Vec<u8>,
    position: u64,
    entries: HashMap<u64, ZipEntry>,
    names: HashSet<Arc<[u8]>>,
    names_bytes: usize,
    listed: u64,
    totals: EntryTotals,
    is_encrypted: bool,
    has_too_many: bool,
}

impl Default for ZipWalk {
    fn default() -> Self {
        ZipWalk {
            state: ZipState::Record,
            record: Vec::new(),
            position: 0,
            entries: HashMap::new(),
            names: HashSet::new(),
            names_bytes: 0,
            listed: 0,
            totals: EntryTotals::default(),
            is_encrypted: false,
            has_too_many: false,
        }
    }
}

impl ZipWalk {
    /// Reads on; tells `sink` what passes.
    ///
    /// # Errors
    /// Why it is no sound archive.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(ZipEvent<'_>),
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            let taken = match std::mem::replace(&mut self.state, ZipState::Record) {
                ZipState::Record => self.take_record(bytes, sink)?,
                ZipState::Data(open) => self.take_data(open, bytes, sink)?,
                ZipState::Descriptor(open) => self.take_descriptor(open, bytes, sink)?,
                ZipState::Stored(open, seeking) => self.take_stored(open, seeking, bytes, sink)?,
                ZipState::Done => return Err("it goes on behind its end".to_owned()),
                ZipState::Opaque => {
                    self.state = ZipState::Opaque;
                    bytes.len()
                }
            };
            self.position += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Whether every entry and the directory were read and fit together; `false` when an entry's end can't
    /// be found in passing, so that only the archive's end was seen.
    ///
    /// # Errors
    /// When it ends too early.
    pub fn finish(&self) -> Result<bool, String> {
        match &self.state {
            ZipState::Done => Ok(true),
            ZipState::Opaque => Ok(false),
            ZipState::Stored(_, seeking) if seeking.has_seen_signature() => {
                Err("an entry's checksum or length is not what it tells".to_owned())
            }
            ZipState::Stored(..) => Ok(false),
            _ => Err("it ends before its directory does".to_owned()),
        }
    }

    /// Whether an entry is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Whether it has more than [`MAX_ENTRIES`] entries: those beyond were not read.
    pub fn has_too_many_entries(&self) -> bool {
        self.has_too_many
    }

    /// Collects one record; gives how many of `bytes` belong to it.
    fn take_record(
        &mut self,
        bytes: &[u8],
        sink: &mut dyn FnMut(ZipEvent<'_>),
    ) -> Result<usize, String> {
        let had = self.record.len();
        let mut taken = 0;
        loop {
            let needed = record_length(&self.record)?;
            let missing = needed - self.record.len();
            if missing == 0 {
                break;
            }
            let step = missing.min(bytes.len() - taken);
            if step == 0 {
                return Ok(taken);
            }
            self.record.extend_from_slice(&bytes[taken..taken + step]);
            taken += step;
        }
        let start = self.position - had as u64;
        let record = std::mem::take(&mut self.record);
        self.record_ended(&record, start, sink)?;
        Ok(taken)
    }

    fn record_ended(
        &mut self,
        record: &[u8],
        start: u64,
        sink: &mut dyn FnMut(ZipEvent<'_>),
    ) -> Result<(), String> {
        match u32_at(record, 0) {
            LOCAL if self.listed > 0 => Err("an entry follows the directory".to_owned()),
            LOCAL => self.begin_entry(record, start, sink),
            CENTRAL => self.check_listed(record),
            END => {
                let told = u16_at(record, 10);
                let is_64 = told == u16::MAX;
                if !is_64 && u64::from(told) != self.listed % 65_536 {
                    return Err("its end record counts other entries".to_owned());
                }
                if self.listed != self.entries.len() as u64 {
                    return Err("its directory does not list every entry".to_owned());
                }
                self.state = ZipState::Done;
                Ok(())
            }
            END_64 if u64_at(record, 32) != self.listed => {
                Err("its end record counts other entries".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn begin_entry(
        &mut self,
        record: &[u8],
        offset: u64,
        sink: &mut dyn FnMut(ZipEvent<'_>),
    ) -> Result<(), String> {
        if self.entries.len() >= MAX_ENTRIES {
            self.has_too_many = true;
            self.entries = HashMap::new();
            self.names = HashSet::new();
            self.state = ZipState::Opaque;
            return Ok(());
        }
        let flags = u16_at(record, 6);
        let name_end = 30 + usize::from(u16_at(record, 26));
        let name: Arc<[u8]> = record[30..name_end].into();
        self.names_bytes += name.len();
        if self.names_bytes > MAX_NAMES_BYTES {
            return Err(format!(
                "the names of its entries have more than {MAX_NAMES_BYTES} bytes"
            ));
        }
        if !self.names.insert(name.clone()) {
            return Err("two entries have one name".to_owned());
        }
        let sizes = [u32_at(record, 22), u32_at(record, 18)];
        let (bytes, packed_bytes) = real_sizes(sizes, &record[name_end..])?;
        let has_descriptor = flags & 8 != 0;
        let is_encrypted = flags & 1 != 0;
        self.is_encrypted |= is_encrypted;
        let method = u16_at(record, 8);
        let is_readable = method == 8 || method == 0;
        let inflater =
            (method == 8 && !is_encrypted).then(|| InflateState::new_boxed(DataFormat::Raw));
        let is_stored = method == 0 && !is_encrypted;
        if has_descriptor && inflater.is_none() && !is_stored {
            self.state = ZipState::Opaque;
            return Ok(());
        }
        sink(ZipEvent::Begin(&name));
        let open = Box::new(OpenEntry {
            entry: ZipEntry {
                name,
                crc32: 0,
                packed_bytes: 0,
                bytes: 0,
                is_checked: is_readable && !is_encrypted,
                is_listed: false,
            },
            offset,
            method,
            is_encrypted,
            left: (!has_descriptor).then_some(packed_bytes),
            told: (!has_descriptor).then(|| (u32_at(record, 14), bytes)),
            inflater,
            before: self.totals,
            is_inflated: false,
            crc: crc_fast::Digest::new(Crc32IsoHdlc),
        });
        if open.left == Some(0) {
            return self.end_entry(open, sink);
        }
        if has_descriptor && is_stored {
            self.state = ZipState::Stored(open, Seeking::default());
            return Ok(());
        }
        self.state = ZipState::Data(open);
        Ok(())
    }

    fn take_data(
        &mut self,
        mut open: Box<OpenEntry>,
        bytes: &[u8],
        sink: &mut dyn FnMut(ZipEvent<'_>),
    ) -> Result<usize, String> {
        let most = open.left.map_or(bytes.len(), |left| {
            usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
        });
        let (taken, is_at_end) = open.read(&bytes[..most], sink)?;
        open.entry.packed_bytes += taken as u64;
        if let Some(left) = &mut open.left {
            *left -= taken as u64;
            if is_at_end && *left > 0 {
                return Err("an entry ends before its told length".to_owned());
            }
        }
        match (open.left, is_at_end) {
            (Some(0), _) => self.end_entry(open, sink)?,
            (None, true) => self.state = ZipState::Descriptor(open),
            _ => self.state = ZipState::Data(open),
        }
        Ok(taken)
    }

    fn take_stored(
        &mut self,
        mut open: Box<OpenEntry>,
        mut seeking: Seeking,
        bytes: &[u8],
        sink: &mut dyn FnMut(ZipEvent<'_>),
    ) -> Result<usize, String> {
        let Some(taken) = seeking.take(&mut open, bytes, sink) else {
            self.state = ZipState::Stored(open, seeking);
            return Ok(bytes.len());
        };
        open.entry.packed_bytes = open.entry.bytes;
        open.told = Some((open.crc32(), open.entry.bytes));
        self.end_entry(open, sink)?;
        Ok(taken)
    }

    /// The descriptor may begin with a signature, and its sizes have 32 or 64 bits.
    fn take_descriptor(
        &mut self,
        mut open: Box<OpenEntry>,
        bytes: &[u8],
        sink: &mut dyn FnMut(ZipEvent<'_>),
    ) -> Result<usize, String> {
        let crc32 = open.crc32();
        for taken in 1..=bytes.len() {
            self.record.push(bytes[taken - 1]);
            let fits = |start: usize, wide: bool| {
                let length = if wide { 20 } else { 12 };
                let Some(told) = self.record.get(start..) else {
                    return false;
                };
                let (packed, whole) = (open.entry.packed_bytes, open.entry.bytes);
                told.len() == length
                    && u32_at(told, 0) == crc32
                    && match wide {
                        true => u64_at(told, 4) == packed && u64_at(told, 12) == whole,
                        false => {
                            u64::from(u32_at(told, 4)) == packed
                                && u64::from(u32_at(told, 8)) == whole
                        }
                    }
            };
            let is_signed = self.record.len() >= 4 && u32_at(&self.record, 0) == DESCRIPTOR;
            let start = if is_signed { 4 } else { 0 };
            if fits(start, false) || fits(start, true) {
                self.record.clear();
                open.told = Some((crc32, open.entry.bytes));
                self.end_entry(open, sink)?;
                return Ok(taken);
            }
            if self.record.len() >= 24 {
                return Err("an entry's checksum or length is not what it tells".to_owned());
            }
        }
        self.state = ZipState::Descriptor(open);
        Ok(bytes.len())
    }

    fn end_entry(
        &mut self,
        mut open: Box<OpenEntry>,
        sink: &mut dyn FnMut(ZipEvent<'_>),
    ) -> Result<(), String> {
        let (told_crc, told_bytes) = open.told.unwrap_or_default();
        if open.entry.is_checked {
            let is_right = open.crc32() == told_crc && open.entry.bytes == told_bytes;
            if !is_right || (open.inflater.is_some() && !open.is_inflated) {
                return Err("an entry's checksum or length is not what it tells".to_owned());
            }
        } else {
            open.entry.bytes = told_bytes;
        }
        open.entry.crc32 = told_crc;
        sink(ZipEvent::End);
        self.totals = self.totals.with(&open.entry);
        self.entries.insert(open.offset, open.entry);
        self.state = ZipState::Record;
        Ok(())
    }

    /// A line of the directory must be about an entry that was read, and say the same.
    fn check_listed(&mut self, record: &[u8]) -> Result<(), String> {
        let name_end = 46 + usize::from(u16_at(record, 28));
        let extra_end = name_end + usize::from(u16_at(record, 30));
        let sizes = [u32_at(record, 24), u32_at(record, 20), u32_at(record, 42)];
        let [bytes, packed, offset] = real_numbers(sizes, &record[name_end..extra_end])?;
        self.listed += 1;
        let known = self.entries.get_mut(&offset);
        if known.as_ref().is_some_and(|known| known.is_listed) {
            return Err("its directory lists an entry twice".to_owned());
        }
        let is_same = known.is_some_and(|known| {
            known.is_listed = true;
            *known.name == record[46..name_end]
                && known.crc32 == u32_at(record, 16)
                && known.packed_bytes == packed
                && known.bytes == bytes
        });
        if is_same {
            Ok(())
        } else {
            Err("its directory lists an entry that is not there".to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
