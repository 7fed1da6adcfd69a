//! How an object is cut into parts. Pure.
//!
//! S3 allows 10,000 parts of 5 MiB to 5 GiB, the last of any size (Amazon S3 multipart upload limits).

use std::collections::BTreeSet;

use crate::transfer::download::ranges::RangeQueue;

/// Parts that one upload may have.
pub const MAX_PARTS: u32 = 10_000;

/// The largest part.
pub const MAX_PART_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// Part sizes are whole multiples of this, so that ranges are easy to read in logs.
const STEP_BYTES: u64 = 1024 * 1024;

/// Times that the part size may double while an object of unknown length grows.
const MAX_DOUBLINGS: u32 = 6;

/// How an object goes up. Parts are numbered from 1; part n is a byte range of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// In one PUT of this many bytes.
    Single {
        /// The whole length.
        length: u64,
    },
    /// In equal parts, the last one shorter.
    Equal {
        /// The whole length.
        length: u64,
        /// Of every part but the last.
        part_bytes: u64,
    },
    /// In parts that grow, since the length is unknown: the size doubles every `every` parts.
    Growing {
        /// Of the first part.
        first_bytes: u64,
        /// Parts of one size.
        every: u32,
    },
}

impl Plan {
    /// The plan for an object of `length` bytes, or of an unknown length up to `max_object_bytes`,
    /// in parts of at least `part_bytes`.
    pub fn new(length: Option<u64>, part_bytes: u64, max_object_bytes: u64) -> Plan {
        match length {
            Some(length) if length <= part_bytes => Plan::Single { length },
            Some(length) => Plan::Equal {
                length,
                part_bytes: part_bytes.max(whole_steps(length.div_ceil(u64::from(MAX_PARTS)))),
            },
            None => Plan::growing(part_bytes, max_object_bytes),
        }
    }

    /// Few doublings are better: memory is held per part.
    fn growing(part_bytes: u64, max_object_bytes: u64) -> Plan {
        for doublings in 0..=MAX_DOUBLINGS {
            let every = MAX_PARTS / (doublings + 1);
            let plan = Plan::Growing {
                first_bytes: part_bytes,
                every,
            };
            let reach: u64 = (0..=doublings)
                .map(|block| u64::from(every) * plan.part_len(block * every + 1))
                .sum();
            if reach >= max_object_bytes {
                return plan;
            }
        }
        Plan::Growing {
            first_bytes: part_bytes
                .max(whole_steps(max_object_bytes.div_ceil(u64::from(MAX_PARTS)))),
            every: MAX_PARTS,
        }
    }

    /// The parts that are left when `done` are there.
    pub(super) fn spans(&self, done: &BTreeSet<u32>) -> RangeQueue {
        let last = match *self {
            Plan::Single { .. } => 1,
            Plan::Equal { length, part_bytes } => {
                u32::try_from(length.div_ceil(part_bytes.max(1))).unwrap_or(MAX_PARTS)
            }
            Plan::Growing { .. } => MAX_PARTS,
        };
        RangeQueue::new(last, done)
    }

    /// The length of part `number`, which for an unknown length is the most that it may have; 0 past the end.
    pub fn part_len(&self, number: u32) -> u64 {
        let before = u64::from(number.saturating_sub(1));
        match *self {
            Plan::Single { length } => {
                if number <= 1 {
                    length
                } else {
                    0
                }
            }
            Plan::Equal { length, part_bytes } => {
                length.saturating_sub(before * part_bytes).min(part_bytes)
            }
            Plan::Growing { first_bytes, every } => {
                let doublings = number.saturating_sub(1) / every.max(1);
                first_bytes
                    .saturating_mul(1u64.checked_shl(doublings).unwrap_or(u64::MAX))
                    .min(MAX_PART_BYTES)
            }
        }
    }
}

fn whole_steps(bytes: u64) -> u64 {
    bytes.div_ceil(STEP_BYTES) * STEP_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const GIB: u64 = 1024 * MIB;
    const TIB: u64 = 1024 * GIB;

    fn lengths(plan: Plan) -> Vec<u64> {
        (1..)
            .map(|n| plan.part_len(n))
            .take_while(|l| *l > 0)
            .collect()
    }

    #[test]
    fn f42_sizes_at_part_borders_are_split_right() {
        let plan = |length| Plan::new(Some(length), 8 * MIB, TIB);
        assert_eq!(plan(0), Plan::Single { length: 0 });
        assert_eq!(plan(1), Plan::Single { length: 1 });
        assert_eq!(plan(8 * MIB), Plan::Single { length: 8 * MIB });
        assert_eq!(lengths(plan(8 * MIB + 1)), [8 * MIB, 1]);
        assert_eq!(lengths(plan(16 * MIB)), [8 * MIB, 8 * MIB]);
        assert_eq!(lengths(plan(16 * MIB - 1)), [8 * MIB, 8 * MIB - 1]);
    }

    #[test]
    fn parts_of_a_known_length_add_up_and_stay_within_the_limits() {
        for length in [9 * MIB, 80 * GIB, 5 * TIB + 12_345, 48 * TIB] {
            let parts = lengths(Plan::new(Some(length), 8 * MIB, 50 * TIB));
            assert_eq!(parts.iter().sum::<u64>(), length);
            assert!(parts.len() <= MAX_PARTS as usize);
            assert!(parts[0] <= MAX_PART_BYTES);
            assert!(
                parts[..parts.len() - 1]
                    .iter()
                    .all(|part| *part == parts[0])
            );
        }
    }

    #[test]
    fn ten_thousand_parts_suffice_for_any_unknown_length() {
        for max_object in [MIB, 64 * GIB, 78 * GIB, 79 * GIB, TIB, 5 * TIB, 48 * TIB] {
            let plan = Plan::new(None, 8 * MIB, max_object);
            let parts: Vec<u64> = (1..=MAX_PARTS).map(|n| plan.part_len(n)).collect();
            assert!(parts.iter().sum::<u64>() >= max_object, "{max_object}");
            assert!(parts.windows(2).all(|pair| pair[0] <= pair[1]));
            assert!(parts.iter().all(|part| *part <= MAX_PART_BYTES));
        }
        assert_eq!(
            Plan::new(None, 8 * MIB, 64 * GIB).part_len(MAX_PARTS),
            8 * MIB
        );
    }
}
