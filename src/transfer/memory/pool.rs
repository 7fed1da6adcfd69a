//! The buffers that parts are read into, used again as soon as the bucket has what was in them.
//!
//! An allocator gives such memory back late and fetches it anew from the system: over many connections
//! that came to more than the parts themselves, and to more the longer a transfer took.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

/// The size of a buffer that is used again.
pub(in crate::transfer) const BUFFER_BYTES: usize = 256 * 1024;

/// Idle buffers that are kept while any is lent: two or three parts, since one lane alone has none to a few on
/// their way.
const KEPT_BUFFERS: usize = 64;

/// Those of the whole process, as its allocator is one.
static SHELF: BufferPool = BufferPool::new();

/// A buffer of [`BUFFER_BYTES`], or a smaller one.
pub(in crate::transfer) enum Buffer {
    /// Of memory that is used once.
    Small(BytesMut),
    /// Goes back to its shelf.
    Whole(PooledBuffer),
}

impl Buffer {
    /// An empty buffer for what is known to be no more than `capacity` bytes. It grows when it is more after all.
    pub(in crate::transfer) fn small(capacity: usize) -> Buffer {
        Buffer::Small(BytesMut::with_capacity(capacity.min(BUFFER_BYTES)))
    }

    /// An empty buffer of full size.
    pub(in crate::transfer) fn whole() -> Buffer {
        Buffer::Whole(SHELF.take())
    }

    /// Takes as much from the front of `chunk` as fits in, by copying: a chunk keeps the whole read buffer alive that
    /// it was cut from, which is larger than what a slow connection brings at a time.
    pub(in crate::transfer) fn fill(&mut self, chunk: &mut Bytes) {
        let room = BUFFER_BYTES - self.len();
        let head = chunk.split_to(room.min(chunk.len()));
        match self {
            Buffer::Small(bytes) => bytes.extend_from_slice(&head),
            Buffer::Whole(loan) => loan.bytes.extend_from_slice(&head),
        }
    }

    /// Whether nothing more fits in.
    pub(in crate::transfer) fn is_full(&self) -> bool {
        self.len() == BUFFER_BYTES
    }

    /// What is in it. A whole buffer goes back to the shelf when the last of the clones is dropped.
    pub(in crate::transfer) fn freeze(self) -> Bytes {
        match self {
            Buffer::Small(bytes) => bytes.freeze(),
            Buffer::Whole(loan) => Bytes::from_owner(loan),
        }
    }

    fn len(&self) -> usize {
        match self {
            Buffer::Small(bytes) => bytes.len(),
            Buffer::Whole(loan) => loan.bytes.len(),
        }
    }
}

/// A whole buffer, given back on drop.
pub(in crate::transfer) struct PooledBuffer {
    bytes: Vec<u8>,
    shelf: &'static BufferPool,
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.shelf.give_back(std::mem::take(&mut self.bytes));
    }
}

/// Whole buffers: some lent, some idle.
struct BufferPool(Mutex<PoolState>);

struct PoolState {
    idle: Vec<Vec<u8>>,
    lent: usize,
}

impl BufferPool {
    const fn new() -> BufferPool {
        BufferPool(Mutex::new(PoolState {
            idle: Vec::new(),
            lent: 0,
        }))
    }

    fn take(&'static self) -> PooledBuffer {
        let mut stock = self.stock();
        stock.lent += 1;
        let idle = stock.idle.pop();
        drop(stock);
        PooledBuffer {
            bytes: idle.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES)),
            shelf: self,
        }
    }

    /// Keeps as many idle ones as are lent, or a few more: enough for the next ones. Nothing is kept when all is done.
    fn give_back(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut stock = self.stock();
        stock.lent -= 1;
        let kept = match stock.lent {
            0 => 0,
            lent => lent.max(KEPT_BUFFERS),
        };
        if stock.idle.len() < kept {
            stock.idle.push(bytes);
            return;
        }
        let surplus = stock.idle.split_off(kept);
        drop(stock);
        drop((surplus, bytes));
    }

    fn stock(&self) -> MutexGuard<'_, PoolState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent_and_idle(shelf: &BufferPool) -> (usize, usize) {
        let stock = shelf.stock();
        (stock.lent, stock.idle.len())
    }

    #[test]
    fn a_buffer_is_used_again_and_none_is_kept_when_all_is_done() {
        static SHELF: BufferPool = BufferPool::new();
        let mut loans: Vec<PooledBuffer> = (0..4).map(|_| SHELF.take()).collect();
        assert_eq!(lent_and_idle(&SHELF), (4, 0));
        let mut last = loans.pop().unwrap();
        last.bytes.extend_from_slice(b"old");
        let memory = last.bytes.as_ptr();
        drop(last);
        assert_eq!(lent_and_idle(&SHELF), (3, 1));
        let again = SHELF.take();
        assert_eq!(again.bytes.as_ptr(), memory);
        assert!(again.bytes.is_empty());
        drop(again);
        drop(loans);
        assert_eq!(lent_and_idle(&SHELF), (0, 0));
    }

    #[test]
    fn a_whole_buffer_takes_what_fits_and_comes_back_with_the_last_clone() {
        let mut chunk = Bytes::from(vec![7; BUFFER_BYTES + 5]);
        let mut buffer = Buffer::whole();
        buffer.fill(&mut chunk);
        assert!(buffer.is_full());
        assert_eq!(chunk.len(), 5);
        let bytes = buffer.freeze();
        let clone = bytes.clone();
        drop(bytes);
        assert_eq!(clone, vec![7; BUFFER_BYTES]);
    }
}
