//! A walk over the top-level boxes of an MPEG-4 file (ISO/IEC 14496-12), sizes only.
//!
//! The walk needs a few bytes of each box header and nothing in between, so parts may come in any order:
//! from a header that is known the next one's place follows. A part that comes before the walk knows
//! where a box begins in it leaves behind what could be a header ([`Mp4Candidates`]); what is not among that is
//! asked for at the end ([`BoxWalk::wanted`]).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ContentProof;
use super::mp4_candidates::{LONG_HEADER, Mp4Candidates};

/// The walk. What is stored of it is where it stands, not what it has put aside.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct BoxWalk {
    /// Where the header of the next box begins.
    next: u64,
    /// What is known of that header.
    header: Vec<u8>,
    kind: [u8; 4],
    is_to_end: bool,
    has_trailer: bool,
    seen: SeenBoxes,
    #[serde(skip)]
    candidates: Mp4Candidates,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct SeenBoxes {
    ftyp: bool,
    moov: bool,
    mdat: bool,
    moof: bool,
    mfra: bool,
}

impl BoxWalk {
    /// Looks at the bytes from `offset` on; those before may be missing.
    pub(super) fn feed_part(&mut self, offset: u64, chunks: &[Bytes]) -> Result<(), String> {
        if self.is_over() {
            return Ok(());
        }
        if self.at() < offset {
            self.candidates.keep(offset, chunks);
            return Ok(());
        }
        let mut start = offset;
        for chunk in chunks {
            self.feed(start, chunk)?;
            start += chunk.len() as u64;
        }
        self.feed_candidates()
    }

    /// Looks at the bytes from `offset` on, which is not behind where the walk is.
    pub(super) fn feed(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        while !self.is_over() {
            let Some(at) = self.at().checked_sub(offset) else {
                return Ok(());
            };
            let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get(at)) else {
                return Ok(());
            };
            self.header.push(*byte);
            self.read_header()?;
        }
        Ok(())
    }

    /// The bytes that the walk needs to go on, in a file of `total` bytes; `None` when it is at the end.
    pub(super) fn wanted(&self, total: u64) -> Option<(u64, u64)> {
        let at = self.at();
        let end = (self.next + LONG_HEADER as u64).min(total);
        (!self.is_over() && at < end).then_some((at, end))
    }

    /// Judges a file of `total` bytes.
    pub(super) fn finish(&self, total: u64) -> Result<ContentProof, String> {
        if self.next > total {
            return Err(format!(
                "it ends inside its box `{}`, {} bytes short",
                self.kind.escape_ascii(),
                self.next - total
            ));
        }
        if !self.header.is_empty() && !self.has_trailer {
            return Err("it ends inside a box header".to_owned());
        }
        for (is_there, kind) in [
            (self.seen.ftyp, "ftyp"),
            (self.seen.moov, "moov"),
            (self.seen.mdat, "mdat"),
        ] {
            if !is_there {
                return Err(format!("it has no `{kind}` box"));
            }
        }
        // Fragments can be cut between two of them without a trace, unless their index is there.
        let could_go_on = self.is_over() || (self.seen.moof && !self.seen.mfra);
        Ok(if could_go_on {
            ContentProof::None
        } else {
            ContentProof::Whole
        })
    }

    fn is_over(&self) -> bool {
        self.is_to_end || self.has_trailer
    }

    /// Where the next byte is that the walk needs.
    fn at(&self) -> u64 {
        self.next.saturating_add(self.header.len() as u64)
    }

    fn feed_candidates(&mut self) -> Result<(), String> {
        while !self.is_over() {
            let Some(byte) = self.candidates.byte(self.at()) else {
                break;
            };
            self.header.push(byte);
            self.read_header()?;
        }
        self.candidates.forget_before(self.next);
        Ok(())
    }

    fn read_header(&mut self) -> Result<(), String> {
        if self.header.len() < 8 {
            return Ok(());
        }
        let short = u64::from(u32::from_be_bytes([
            self.header[0],
            self.header[1],
            self.header[2],
            self.header[3],
        ]));
        self.kind.copy_from_slice(&self.header[4..8]);
        let size = match (short, self.header.len()) {
            (1, length) if length < LONG_HEADER => return Ok(()),
            (1, _) => self.header[8..LONG_HEADER]
                .iter()
                .fold(0u64, |size, byte| (size << 8) | u64::from(*byte)),
            _ => short,
        };
        let is_named = self
            .kind
            .iter()
            .all(|byte| matches!(byte, 0x20..=0x7e | 0xa9));
        let header_len = self.header.len() as u64;
        let is_sound = is_named && (short == 0 || size >= header_len);
        if !is_sound {
            // Some writers leave padding behind the last box.
            if self.seen.moov && self.seen.mdat {
                self.has_trailer = true;
                return Ok(());
            }
            return Err("its boxes can't be followed".to_owned());
        }
        self.note();
        if !self.seen.ftyp {
            return Err(format!(
                "it begins with `{}` instead of `ftyp`",
                self.kind.escape_ascii()
            ));
        }
        self.is_to_end = short == 0;
        if !self.is_to_end {
            self.next = self.next.saturating_add(size);
        }
        self.header.clear();
        Ok(())
    }

    fn note(&mut self) {
        match &self.kind {
            b"ftyp" => self.seen.ftyp = true,
            b"moov" => self.seen.moov = true,
            b"mdat" => self.seen.mdat = true,
            b"moof" => self.seen.moof = true,
            b"mfra" => self.seen.mfra = true,
            _ => {}
        }
    }
}
