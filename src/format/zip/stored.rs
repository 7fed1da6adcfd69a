//! The end of a stored entry whose length only its descriptor tells, as writers to a pipe leave it: found by the
//! descriptor itself, whose checksum and length must be those of all that came before.

use super::record::{DESCRIPTOR, u32_at, u64_at};
use super::{OpenEntry, ZipEvent};

/// The longest descriptor: signature, checksum and two lengths of 64 bits.
const DESCRIPTOR_BYTES: usize = 24;

/// What may be the beginning of the descriptor.
#[derive(Default)]
pub(super) struct Seeking {
    held: Vec<u8>,
    has_seen_signature: bool,
}

/// What the bytes that are held are.
enum HeldBytes {
    Content,
    Unclear,
    Descriptor,
}

impl Seeking {
    /// Whether a descriptor was seen that is of no use: the entry is damaged, or it is not the one. Without any, the
    /// writer may have left out the signature, and its descriptor can't be told from content.
    pub(super) fn has_seen_signature(&self) -> bool {
        self.has_seen_signature
    }

    /// Takes bytes; gives how many when the descriptor has ended within them.
    pub(super) fn take(
        &mut self,
        open: &mut OpenEntry,
        bytes: &[u8],
        sink: &mut dyn FnMut(ZipEvent<'_>),
    ) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.held.is_empty() {
                let rest = &bytes[at..];
                let content = rest.iter().position(|byte| *byte == b'P');
                let content = content.unwrap_or(rest.len());
                open.pass(&rest[..content], sink);
                at += content;
                if at == bytes.len() {
                    break;
                }
            }
            self.held.push(bytes[at]);
            at += 1;
            if self.settle(open, sink) {
                return Some(at);
            }
        }
        None
    }

    /// Passes on what turns out to be content. Whether the descriptor is complete.
    fn settle(&mut self, open: &mut OpenEntry, sink: &mut dyn FnMut(ZipEvent<'_>)) -> bool {
        while !self.held.is_empty() {
            match self.judge(open) {
                HeldBytes::Descriptor => return true,
                HeldBytes::Unclear => return false,
                HeldBytes::Content => {
                    let next = self.held[1..].iter().position(|byte| *byte == b'P');
                    let content = next.map_or(self.held.len(), |next| next + 1);
                    open.pass(&self.held[..content], sink);
                    self.held.drain(..content);
                }
            }
        }
        false
    }

    fn judge(&mut self, open: &OpenEntry) -> HeldBytes {
        let held = self.held.as_slice();
        let signature = DESCRIPTOR.to_le_bytes();
        let known = held.len().min(signature.len());
        let is_begun = held[..known] == signature[..known];
        self.has_seen_signature |= is_begun && known == signature.len();
        if !is_begun || (held.len() >= 8 && u32_at(held, 4) != open.crc32()) {
            return HeldBytes::Content;
        }
        let length = open.entry.bytes;
        let is_short = held.len() == 16
            && u64::from(u32_at(held, 8)) == length
            && u64::from(u32_at(held, 12)) == length;
        let is_long = held.len() == DESCRIPTOR_BYTES
            && u64_at(held, 8) == length
            && u64_at(held, 16) == length;
        match held.len() {
            _ if is_short || is_long => HeldBytes::Descriptor,
            DESCRIPTOR_BYTES.. => HeldBytes::Content,
            _ => HeldBytes::Unclear,
        }
    }
}
