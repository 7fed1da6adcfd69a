//! The last bytes of content, kept while it passes.

use crate::model::Format;

/// How much of the end tells: a ZIP's directory end record with the longest comment, a PNG's end chunk with as much behind
/// it, two empty blocks of a tar, a JPEG's end marker.
pub(super) fn bytes_of(format: Format) -> usize {
    match format {
        Format::Zip | Format::Png => 22 + 65_535,
        Format::Tar => 1024,
        Format::Jpg => 2,
        _ => 0,
    }
}

/// The last bytes that came.
pub(super) struct Tail {
    limit: usize,
    kept: KeptTail,
}

enum KeptTail {
    /// Of content whose length is not known: what came last.
    Rolling(Vec<u8>),
    /// Of content whose length is known, from this offset on.
    Fixed(u64, Vec<u8>),
}

impl Tail {
    /// Of content of an unknown length, which comes in order.
    pub(super) fn new(format: Format) -> Tail {
        Tail {
            limit: bytes_of(format),
            kept: KeptTail::Rolling(Vec::new()),
        }
    }

    /// Of content of `length` bytes, whose parts may come in any order.
    pub(super) fn of_length(format: Format, length: u64) -> Tail {
        let limit = bytes_of(format);
        let start = length.saturating_sub(limit as u64);
        Tail {
            limit,
            kept: KeptTail::Fixed(start, vec![0; (length - start) as usize]),
        }
    }

    /// Keeps what matters of the bytes at `offset`.
    pub(super) fn keep(&mut self, offset: u64, bytes: &[u8]) {
        let limit = self.limit;
        match &mut self.kept {
            KeptTail::Rolling(tail) => {
                tail.extend_from_slice(&bytes[bytes.len().saturating_sub(limit)..]);
                // Trimmed only now and then, so that each byte is moved about once.
                if tail.len() > 4 * limit {
                    tail.drain(..tail.len() - limit);
                }
            }
            KeptTail::Fixed(start, tail) => {
                let skip = start.saturating_sub(offset).min(bytes.len() as u64) as usize;
                let bytes = &bytes[skip..];
                let at = (offset + skip as u64).saturating_sub(*start) as usize;
                if let Some(place) = tail.get_mut(at..at + bytes.len()) {
                    place.copy_from_slice(bytes);
                }
            }
        }
    }

    /// The last bytes: at least as many as tell, or all.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.kept {
            KeptTail::Rolling(bytes) | KeptTail::Fixed(_, bytes) => bytes,
        }
    }
}
