//! The CRC64NVME of a whole from those of its parts.
//!
//! The checksum of `a` followed by `b` is that of `a`, multiplied by x to the power of the bits of `b`, plus that of
//! `b`: polynomials over GF(2), modulo that of the CRC (NVM Express NVM Command Set Specification, 64b CRC). Its first
//! and last value are inverted alike, so that both cancel out. `crc_fast` raises a matrix to that power instead,
//! which takes a quarter of a millisecond a part: more than to compute a megabyte's checksum.

/// The polynomial without its highest term, the lowest bit standing for the highest power.
const POLYNOMIAL: u64 = 0x9A6C_9329_AC4B_C9B5;

/// The polynomial 1.
const ONE: u64 = 1 << 63;

/// The polynomial x^8: what one byte more multiplies with.
const BYTE: u64 = ONE >> 8;

/// CRC64NVME of two sequences of bytes in a row, the second of which has `second_bytes`.
pub(crate) fn combine(first: u64, second: u64, second_bytes: u64) -> u64 {
    let (mut shifted, mut power, mut left) = (first, BYTE, second_bytes);
    while left > 0 {
        if left & 1 == 1 {
            shifted = multiply(shifted, power);
        }
        power = multiply(power, power);
        left >>= 1;
    }
    shifted ^ second
}

/// The product of two polynomials modulo [`POLYNOMIAL`].
fn multiply(mut a: u64, mut b: u64) -> u64 {
    let mut product = 0;
    while a != 0 {
        if a & ONE != 0 {
            product ^= b;
        }
        a <<= 1;
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    product
}

#[cfg(test)]
mod tests {
    use crc_fast::CrcAlgorithm::Crc64Nvme;
    use crc_fast::{checksum, checksum_combine};

    use super::*;

    #[test]
    fn a_whole_has_the_checksum_that_its_parts_combine_to() {
        let whole: Vec<u8> = (0..1000u32).flat_map(u32::to_le_bytes).collect();
        let expected = checksum(Crc64Nvme, &whole);
        for at in [0, 1, 2, 3, 255, 256, 1777, 3999, 4000] {
            let (first, second) = whole.split_at(at);
            let [first_crc, second_crc] = [first, second].map(|bytes| checksum(Crc64Nvme, bytes));
            let combined = combine(first_crc, second_crc, second.len() as u64);
            assert_eq!(combined, expected, "cut at {at}");
        }
    }

    #[test]
    fn lengths_that_nobody_holds_in_memory_combine_as_in_the_library() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for bits in 1..=46 {
            let (first, second) = (random.u64(..), random.u64(..));
            let length = random.u64(1 << (bits - 1)..1 << bits);
            let expected = checksum_combine(Crc64Nvme, first, second, length);
            let combined = combine(first, second, length);
            assert_eq!(combined, expected, "seed {seed}, {length} bytes");
        }
    }
}
