//! The entry that is being read, inflated within what an archive may become.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{MZError, MZFlush, MZStatus};

use super::{ZipEntry, ZipEvent};

/// How much larger an archive and each of its entries may become: media hardly shrinks, playlists by less than this.
const MAX_RATIO: u64 = 100;

/// What an archive may become whatever its ratio.
const FREE_BYTES: u64 = 1024 * 1024;

/// The entry that is being read.
pub(super) struct OpenEntry {
    pub(super) entry: ZipEntry,
    pub(super) offset: u64,
    pub(super) method: u16,
    pub(super) is_encrypted: bool,
    /// Packed bytes to come, if told.
    pub(super) left: Option<u64>,
    pub(super) told: Option<(u32, u64)>,
    pub(super) inflater: Option<Box<InflateState>>,
    pub(super) before: EntryTotals,
    /// Whether the packed data came to its own end.
    pub(super) is_inflated: bool,
    pub(super) crc: crc_fast::Digest,
}

/// What entries have come to.
#[derive(Clone, Copy, Default)]
pub(super) struct EntryTotals {
    packed_bytes: u64,
    bytes: u64,
}

impl EntryTotals {
    pub(super) fn with(self, entry: &ZipEntry) -> EntryTotals {
        EntryTotals {
            packed_bytes: self.packed_bytes.saturating_add(entry.packed_bytes),
            bytes: self.bytes.saturating_add(entry.bytes),
        }
    }

    fn is_bomb(self) -> bool {
        let most = self.packed_bytes.saturating_mul(MAX_RATIO);
        self.bytes > most.saturating_add(FREE_BYTES)
    }
}

impl OpenEntry {
    /// Takes packed bytes; gives how many, and whether the packed data says that it ends.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        sink: &mut dyn FnMut(ZipEvent<'_>),
    ) -> Result<(usize, bool), String> {
        let Some(mut inflater) = self.inflater.take() else {
            if self.method == 0 && !self.is_encrypted {
                self.pass(bytes, sink);
            }
            return Ok((bytes.len(), false));
        };
        let mut out = [0u8; 16 * 1024];
        let mut taken = 0;
        let mut is_at_end = false;
        loop {
            let result = inflate(&mut inflater, &bytes[taken..], &mut out, MZFlush::None);
            taken += result.bytes_consumed;
            self.pass(&out[..result.bytes_written], sink);
            let entry = EntryTotals {
                packed_bytes: self.entry.packed_bytes + taken as u64,
                bytes: self.entry.bytes,
            };
            let archive = EntryTotals {
                packed_bytes: self.before.packed_bytes.saturating_add(entry.packed_bytes),
                bytes: self.before.bytes.saturating_add(entry.bytes),
            };
            if entry.is_bomb() || archive.is_bomb() {
                return Err(format!(
                    "it becomes more than {MAX_RATIO} times as large as it is packed"
                ));
            }
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    is_at_end = true;
                    break;
                }
                Ok(_) if result.bytes_consumed == 0 && result.bytes_written == 0 => break,
                Err(MZError::Buf) => break,
                Err(_) => return Err("an entry can't be inflated".to_owned()),
                Ok(_) => {}
            }
        }
        if !is_at_end && taken < bytes.len() {
            return Err("an entry can't be inflated".to_owned());
        }
        self.inflater = Some(inflater);
        self.is_inflated |= is_at_end;
        Ok((taken, is_at_end))
    }

    pub(super) fn pass(&mut self, bytes: &[u8], sink: &mut dyn FnMut(ZipEvent<'_>)) {
        if !bytes.is_empty() {
            self.entry.bytes += bytes.len() as u64;
            self.crc.update(bytes);
            sink(ZipEvent::Data(bytes));
        }
    }

    pub(super) fn crc32(&self) -> u32 {
        u32::try_from(self.crc.finalize()).unwrap_or_default()
    }
}
