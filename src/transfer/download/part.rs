//! The bytes of one part while it is read.

use std::sync::Arc;

use bytes::Bytes;

use crate::object::Payload;
use crate::transfer::digest::PartDigest;
use crate::transfer::memory::pool::{BUFFER_BYTES, Buffer};

/// A part being filled.
pub(in crate::transfer) struct PartBuilder {
    full: Vec<Bytes>,
    filling: Option<Buffer>,
    /// How many bytes are expected in all; 0 while nobody knows.
    expected_bytes: u64,
    size_bytes: u64,
    digest: PartDigest,
}

impl PartBuilder {
    /// An empty part.
    pub(in crate::transfer) fn new() -> PartBuilder {
        PartBuilder::of(0)
    }

    /// An empty part that will have so many bytes, as far as that is known.
    pub(in crate::transfer) fn of(size_bytes: u64) -> PartBuilder {
        PartBuilder {
            full: Vec::new(),
            filling: None,
            expected_bytes: size_bytes,
            size_bytes: 0,
            digest: PartDigest::new(),
        }
    }

    /// Adds a chunk at the end.
    pub(in crate::transfer) fn push(&mut self, mut chunk: Bytes) {
        self.size_bytes += chunk.len() as u64;
        self.digest.update(&chunk);
        while !chunk.is_empty() {
            // To the brim, whatever comes: what is left empty of a buffer is memory that nobody counts.
            let mut buffer = match self.filling.take() {
                Some(buffer) => buffer,
                None => self.next_buffer(),
            };
            buffer.fill(&mut chunk);
            if buffer.is_full() {
                self.full.push(buffer.freeze());
            } else {
                self.filling = Some(buffer);
            }
        }
    }

    /// A whole one, but not for what is, or may be, less.
    fn next_buffer(&self) -> Buffer {
        let stored = (self.full.len() * BUFFER_BYTES) as u64;
        let coming = match self.expected_bytes {
            0 if stored == 0 => self.size_bytes,
            0 => u64::MAX,
            expected => expected.saturating_sub(stored),
        };
        match usize::try_from(coming) {
            Ok(bytes) if bytes < BUFFER_BYTES => Buffer::small(bytes),
            _ => Buffer::whole(),
        }
    }

    /// Bytes so far.
    pub(in crate::transfer) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The part, ready to be sent.
    pub(in crate::transfer) fn finish(mut self) -> Payload {
        self.full.extend(self.filling.take().map(Buffer::freeze));
        Payload {
            chunks: Arc::new(self.full),
            size_bytes: self.size_bytes,
            crc64nvme: self.digest.crc64nvme(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_any_size_are_copied_together_into_full_buffers() {
        let mut part = PartBuilder::new();
        let mut expected = Vec::new();
        for (byte, size) in [(1u8, 1000), (2, 200_000), (3, 900_000), (4, 0), (5, 3)] {
            let chunk = vec![byte; size];
            expected.extend_from_slice(&chunk);
            part.push(Bytes::from(chunk));
        }
        let payload = part.finish();
        let (last, full) = payload.chunks.split_last().unwrap();
        assert!(full.iter().all(|chunk| chunk.len() == BUFFER_BYTES));
        assert_eq!(last.len(), expected.len() % BUFFER_BYTES);
        assert_eq!(payload.size_bytes, expected.len() as u64);
        assert!(payload.chunks.concat() == expected);
    }

    #[test]
    fn what_is_small_takes_no_more_memory_than_it_needs() {
        for mut part in [PartBuilder::new(), PartBuilder::of(1000)] {
            part.push(Bytes::from(vec![1; 1000]));
            let payload = part.finish();
            let chunk = Vec::from(payload.chunks[0].clone());
            assert!(chunk.capacity() < 2000, "{}", chunk.capacity());
        }
        let mut part = PartBuilder::of(BUFFER_BYTES as u64 + 1000);
        part.push(Bytes::from(vec![1; BUFFER_BYTES + 1000]));
        let rest = Vec::from(part.finish().chunks[1].clone());
        assert_eq!(rest.len(), 1000);
        assert!(rest.capacity() < 2000, "{}", rest.capacity());
    }
}
