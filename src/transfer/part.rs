//! The bytes of one part while it is read.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::digest::PartDigest;
use crate::object::Payload;

/// Chunks below this are copied together. A chunk keeps the whole read buffer alive that it was cut
/// from, and that is larger than what a slow connection brings at a time: over many of them a part would else
/// take twice the memory that is counted for it, and from an origin that sends a byte at a time many times as much.
const SMALL_CHUNK_BYTES: usize = 128 * 1024;

/// What small chunks are copied into.
const BUFFER_BYTES: usize = 256 * 1024;

/// A part being filled.
pub(super) struct PartBuilder {
    chunks: Vec<Bytes>,
    small: BytesMut,
    /// How much is expected in all, as far as it fits into one buffer.
    all: usize,
    size_bytes: u64,
    digest: PartDigest,
}

impl PartBuilder {
    /// An empty part.
    pub(super) fn new() -> PartBuilder {
        PartBuilder::of(0)
    }

    /// An empty part that will have so many bytes, as far as that is known.
    pub(super) fn of(size_bytes: u64) -> PartBuilder {
        let all = usize::try_from(size_bytes).unwrap_or(BUFFER_BYTES);
        PartBuilder {
            chunks: Vec::new(),
            small: BytesMut::new(),
            all: all.min(BUFFER_BYTES),
            size_bytes: 0,
            digest: PartDigest::new(),
        }
    }

    /// Adds a chunk at the end.
    pub(super) fn push(&mut self, mut chunk: Bytes) {
        self.size_bytes += chunk.len() as u64;
        self.digest.update(&chunk);
        if !self.small.is_empty() {
            // To the brim, whatever comes: what is left empty of a buffer is memory that nobody counts.
            let room = BUFFER_BYTES - self.small.len();
            let head = chunk.split_to(room.min(chunk.len()));
            self.small.extend_from_slice(&head);
            if self.small.len() == BUFFER_BYTES {
                self.flush();
            }
        }
        if chunk.len() >= SMALL_CHUNK_BYTES {
            self.chunks.push(chunk);
        } else if !chunk.is_empty() {
            // At once, since growing step by step would leave the steps behind as holes; but not for what may be all.
            let is_large = self.size_bytes > BUFFER_BYTES as u64;
            self.small.reserve(match is_large {
                true => BUFFER_BYTES,
                false => self.all,
            });
            self.small.extend_from_slice(&chunk);
        }
    }

    /// Bytes so far.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The part, ready to be sent.
    pub(super) fn finish(mut self) -> Payload {
        self.flush();
        Payload {
            chunks: Arc::new(self.chunks),
            size_bytes: self.size_bytes,
            crc64nvme: self.digest.crc64nvme(),
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(std::mem::take(&mut self.small).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_chunks_are_copied_together_and_large_ones_passed_on() {
        let mut part = PartBuilder::new();
        let mut expected = Vec::new();
        for byte in 0..200u8 {
            let chunk = vec![byte; 1000];
            expected.extend_from_slice(&chunk);
            part.push(Bytes::from(chunk));
        }
        let large = Bytes::from(vec![9u8; 200_000]);
        expected.extend_from_slice(&large);
        part.push(large.clone());
        let payload = part.finish();
        assert_eq!(payload.chunks.concat(), expected);
        assert_eq!(payload.size_bytes, expected.len() as u64);
        assert!(payload.chunks.len() <= 5);
        // What the buffer had no room for is where it was, and the buffer is full.
        let copied = BUFFER_BYTES - 200_000;
        assert_eq!(payload.chunks.last().unwrap(), &large[copied..]);
        assert_eq!(
            payload.chunks.last().unwrap().as_ptr(),
            large[copied..].as_ptr()
        );
        assert!(
            payload.chunks[..payload.chunks.len() - 1]
                .iter()
                .all(|chunk| chunk.len() == BUFFER_BYTES)
        );
    }
}
