//! The bytes of one part while it is read.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::digest::PartDigest;
use crate::object::Payload;

/// Chunks below this are copied together. A chunk keeps the whole read buffer alive that it was cut
/// from, and that is larger than what a slow connection brings at a time: over many of them a part would else
/// take twice the memory that is counted for it, and from an origin that sends a byte at a time many times as much.
const SMALL_CHUNK_BYTES: usize = 48 * 1024;

/// What small chunks are copied into.
const COPY_BUFFER_BYTES: usize = 256 * 1024;

/// A part being filled.
pub(super) struct PartBuilder {
    chunks: Vec<Bytes>,
    small: BytesMut,
    /// Room for all of a part whose size is known, and that is small.
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
        let all = usize::try_from(size_bytes).unwrap_or(COPY_BUFFER_BYTES);
        PartBuilder {
            chunks: Vec::new(),
            small: BytesMut::new(),
            all: all.min(COPY_BUFFER_BYTES),
            size_bytes: 0,
            digest: PartDigest::new(),
        }
    }

    /// Adds a chunk at the end.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.size_bytes += chunk.len() as u64;
        self.digest.update(&chunk);
        if chunk.len() >= SMALL_CHUNK_BYTES {
            self.flush();
            self.chunks.push(chunk);
            return;
        }
        if self.small.len() + chunk.len() > COPY_BUFFER_BYTES {
            self.flush();
        }
        if self.small.is_empty() && self.small.capacity() < self.all {
            self.small.reserve(self.all);
        }
        // At once, since growing step by step would leave the steps behind as holes; but not for what may be all.
        if self.size_bytes > COPY_BUFFER_BYTES as u64 && self.small.capacity() < COPY_BUFFER_BYTES {
            self.small.reserve(COPY_BUFFER_BYTES);
        }
        self.small.extend_from_slice(&chunk);
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
        let large = Bytes::from(vec![9u8; 100_000]);
        expected.extend_from_slice(&large);
        part.push(large.clone());
        let payload = part.finish();
        assert_eq!(payload.chunks.concat(), expected);
        assert_eq!(payload.size_bytes, expected.len() as u64);
        assert!(payload.chunks.len() <= 5);
        assert_eq!(payload.chunks.last().unwrap().as_ptr(), large.as_ptr());
    }
}
