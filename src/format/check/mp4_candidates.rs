//! What a part leaves behind that came before anybody knew where its boxes begin: its edges, and every
//! place where a box of a known kind could begin. In media a kind's four letters come up by chance about
//! once in a hundred parts, so this is small.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The longest box header: 32-bit size, type, 64-bit size.
pub(super) const LONG_HEADER: usize = 16;

/// The kinds of boxes that stand at the top level of files (ISO/IEC 14496-12 and QuickTime).
const KINDS: [&[u8; 4]; 18] = [
    b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"mfra", b"free", b"skip", b"wide", b"sidx",
    b"ssix", b"meta", b"uuid", b"emsg", b"prft", b"pdin", b"udta", b"pnot",
];

/// More is not kept: content that is made of such letters is asked for again where it matters.
const MAX_PIECES: usize = 64 * 1024;

/// Small pieces of a file by their offset.
#[derive(Clone, Default)]
pub(super) struct Mp4Candidates(BTreeMap<u64, Vec<u8>>);

impl Mp4Candidates {
    /// Keeps what could matter of the bytes from `offset` on.
    pub(super) fn keep(&mut self, offset: u64, chunks: &[Bytes]) {
        let size: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        self.keep_piece(offset, &piece(chunks, 0));
        let end = size.saturating_sub(LONG_HEADER as u64);
        self.keep_piece(offset + end, &piece(chunks, end));
        let mut start = 0;
        for chunk in chunks {
            for at in kinds_in(chunk) {
                self.keep_header(offset, chunks, start + at as u64);
            }
            // A name may lie across two chunks.
            let across = start.saturating_sub(3);
            let edge = piece(chunks, across);
            for at in kinds_in(&edge[..edge.len().min(6)]) {
                self.keep_header(offset, chunks, across + at as u64);
            }
            start += chunk.len() as u64;
        }
    }

    /// The byte at `offset`, if it was kept.
    pub(super) fn byte(&self, offset: u64) -> Option<u8> {
        let near = self
            .0
            .range(offset.saturating_sub(LONG_HEADER as u64)..=offset);
        near.rev()
            .find_map(|(start, piece)| piece.get((offset - start) as usize).copied())
    }

    /// Forgets what lies wholly before `offset`.
    pub(super) fn forget_before(&mut self, offset: u64) {
        let kept = self.0.split_off(&offset.saturating_sub(LONG_HEADER as u64));
        self.0 = kept;
    }

    /// The size stands in the four bytes before the name.
    fn keep_header(&mut self, offset: u64, chunks: &[Bytes], name_at: u64) {
        if let Some(at) = name_at.checked_sub(4) {
            self.keep_piece(offset + at, &piece(chunks, at));
        }
    }

    fn keep_piece(&mut self, offset: u64, bytes: &[u8]) {
        if self.0.len() < MAX_PIECES {
            self.0.insert(offset, bytes.to_vec());
        }
    }
}

/// A header's worth of bytes from `at` on.
fn piece(chunks: &[Bytes], at: u64) -> Vec<u8> {
    let mut skip = at;
    let mut bytes = Vec::with_capacity(LONG_HEADER);
    for chunk in chunks {
        let from = skip.min(chunk.len() as u64) as usize;
        skip -= from as u64;
        let room = LONG_HEADER - bytes.len();
        bytes.extend(chunk[from..].iter().take(room));
        if bytes.len() == LONG_HEADER {
            break;
        }
    }
    bytes
}

/// Where names of boxes stand.
fn kinds_in(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.windows(4).enumerate().filter_map(|(at, name)| {
        // Most bytes end here: all names end in one of these.
        let may_be = matches!(
            name[3],
            b'a' | b'd' | b'e' | b'f' | b'g' | b'n' | b'p' | b't' | b'v' | b'x'
        );
        (may_be && KINDS.iter().any(|kind| kind[..] == *name)).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortcut_lets_every_kind_through() {
        for kind in KINDS {
            assert_eq!(kinds_in(kind).count(), 1, "{}", kind.escape_ascii());
        }
    }

    #[test]
    fn headers_are_found_wherever_the_chunks_are_cut() {
        let mut file = vec![0u8; 100];
        file.extend_from_slice(b"\0\0\0\x01mdat\0\0\0\0\0\0\x10\0");
        file.extend_from_slice(&[0; 300]);
        for cut in 1..file.len() {
            let chunks = [
                Bytes::copy_from_slice(&file[..cut]),
                Bytes::copy_from_slice(&file[cut..]),
            ];
            let mut candidates = Mp4Candidates::default();
            candidates.keep(5000, &chunks);
            for (at, byte) in file.iter().enumerate().skip(100).take(16) {
                assert_eq!(
                    candidates.byte(5000 + at as u64),
                    Some(*byte),
                    "cut at {cut}"
                );
            }
        }
    }
}
