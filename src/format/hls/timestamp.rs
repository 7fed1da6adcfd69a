//! The first presentation timestamp of an MPEG transport stream (ISO/IEC 13818-1), for the clock that
//! subtitles are told in.

/// The length of a packet, and what each begins with.
const PACKET_BYTES: usize = 188;
const SYNC: u8 = 0x47;

/// The earliest first timestamp (90 kHz) of the streams in the beginning of `bytes`; `None` when it is no
/// transport stream.
pub fn first_timestamp(bytes: &[u8]) -> Option<u64> {
    let mut seen = std::collections::BTreeSet::new();
    let mut earliest: Option<u64> = None;
    for packet in bytes.chunks_exact(PACKET_BYTES) {
        if packet[0] != SYNC {
            return earliest;
        }
        let begins = packet[1] & 0x40 != 0;
        let id = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
        if begins
            && let Some(timestamp) = payload(packet).and_then(timestamp_of)
            && seen.insert(id)
        {
            earliest = Some(earliest.map_or(timestamp, |known| known.min(timestamp)));
        }
    }
    earliest
}

/// The payload behind the adaptation field.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    let control = packet[3] >> 4 & 3;
    let start = match control {
        1 => 4,
        3 => 5 + usize::from(packet[4]),
        _ => return None,
    };
    packet.get(start..)
}

/// The PTS in the header of a PES packet.
fn timestamp_of(pes: &[u8]) -> Option<u64> {
    let header = pes.get(..14)?;
    let is_pes = header.starts_with(&[0, 0, 1]) && header[7] & 0x80 != 0;
    let bits = |at: usize| u64::from(header[at]);
    is_pes.then(|| {
        (bits(9) >> 1 & 7) << 30
            | bits(10) << 22
            | (bits(11) >> 1) << 15
            | bits(12) << 7
            | bits(13) >> 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_timestamp_of_a_segment_is_read() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let segment = std::fs::read(root.join("fixtures/hls/ts/ts-0-0.ts")).unwrap();
        // What ffprobe tells as the first packet's time, in ticks.
        assert_eq!(first_timestamp(&segment), Some(141_120));
        assert_eq!(first_timestamp(b"WEBVTT"), None);
        assert_eq!(first_timestamp(&[SYNC; 1000]), None);
    }
}
