use std::process::Command;

use super::*;

fn fixture() -> Vec<u8> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(root.join("fixtures/media/hls.zip")).unwrap()
}

/// An entry's name and content.
type FoundEntry = (String, Vec<u8>);

/// What passes of `zip` when it comes in pieces of `step` bytes.
fn walk(zip: &[u8], step: usize) -> Result<(bool, Vec<FoundEntry>), String> {
    let mut walk = ZipWalk::default();
    let mut found: Vec<FoundEntry> = Vec::new();
    for piece in zip.chunks(step) {
        walk.feed(piece, &mut |event| match event {
            ZipEvent::Begin(name) => {
                found.push((String::from_utf8_lossy(name).into_owned(), Vec::new()));
            }
            ZipEvent::Data(bytes) => found.last_mut().unwrap().1.extend_from_slice(bytes),
            ZipEvent::End => {}
        })?;
    }
    Ok((walk.finish()?, found))
}

/// A stored entry and its directory, byte by byte.
fn stored(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in entries {
        let crc = u32::try_from(crc_fast::checksum(Crc32IsoHdlc, content)).unwrap();
        let size = u32::try_from(content.len()).unwrap();
        let mut middle = Vec::new();
        middle.extend_from_slice(&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        middle.extend_from_slice(&crc.to_le_bytes());
        middle.extend_from_slice(&size.to_le_bytes());
        middle.extend_from_slice(&size.to_le_bytes());
        middle.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
        middle.extend_from_slice(&[0, 0]);
        let offset = u32::try_from(zip.len()).unwrap();
        directory.extend_from_slice(b"PK\x01\x02\x14\x00");
        directory.extend_from_slice(&middle);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
        zip.extend_from_slice(b"PK\x03\x04");
        zip.extend_from_slice(&middle);
        zip.extend_from_slice(name.as_bytes());
        zip.extend_from_slice(content);
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let start = u32::try_from(zip.len()).unwrap().to_le_bytes();
    zip.extend_from_slice(&directory);
    zip.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    zip.extend_from_slice(&count);
    zip.extend_from_slice(&count);
    zip.extend_from_slice(&u32::try_from(directory.len()).unwrap().to_le_bytes());
    zip.extend_from_slice(&start);
    zip.extend_from_slice(&[0, 0]);
    zip
}

#[test]
fn a_sound_archive_is_read_in_any_pieces() {
    let zip = fixture();
    for step in [1, 7, 4096, usize::MAX] {
        let (is_whole, found) = walk(&zip, step.min(zip.len())).unwrap();
        assert!(is_whole);
        let sizes: Vec<_> = found
            .iter()
            .map(|(name, data)| (name.as_str(), data.len()))
            .collect();
        assert_eq!(
            sizes,
            [
                ("vod/master.m3u8", 90),
                ("vod/layer.m3u8", 277),
                ("vod/layer.ts", 78_960)
            ]
        );
    }
    let (is_whole, found) =
        walk(&stored(&[("a", b"one"), ("b/", b""), ("b/c", b"two")]), 3).unwrap();
    assert!(is_whole);
    assert_eq!(found[2], ("b/c".to_owned(), b"two".to_vec()));
    assert_eq!(walk(&stored(&[]), 5).unwrap(), (true, vec![]));
    assert_eq!(told_entries(&zip[1000..]), Some(3));
    assert_eq!(told_entries(&zip[..zip.len() - 1]), None);
}

#[test]
fn f53_every_cut_and_every_changed_byte_is_noticed() {
    let zip = stored(&[("a.m3u8", b"#EXTM3U"), ("b.ts", b"some media")]);
    for cut in 0..zip.len() {
        assert!(walk(&zip[..cut], 11).is_err(), "cut at {cut}");
    }
    let zip = fixture();
    let seed = 7;
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..60 {
        let cut = random.usize(..zip.len());
        assert!(walk(&zip[..cut], 4096).is_err(), "cut at {cut}");
        let mut damaged = zip.clone();
        // Within the packed data of the last file.
        let at = random.usize(500..60_000);
        damaged[at] ^= 1 << random.u8(..8);
        assert!(walk(&damaged, 4096).is_err(), "byte {at}, seed {seed}");
    }
}

#[test]
fn f53_what_does_not_fit_together_is_refused() {
    let name = |zip: &[u8]| walk(zip, 64).unwrap_err();
    assert_eq!(
        name(&stored(&[("a", b"1"), ("a", b"2")])),
        "two entries have one name"
    );
    let sound = stored(&[("a", b"1")]);
    let mut trailing = sound.clone();
    trailing.push(0);
    assert_eq!(name(&trailing), "it goes on behind its end");
    let mut wrong_crc = sound.clone();
    wrong_crc[14] ^= 1;
    assert!(name(&wrong_crc).contains("checksum or length"));
    let central = 30 + 1 + 1;
    let mut elsewhere = sound.clone();
    elsewhere[central + 42] = 5;
    assert!(name(&elsewhere).contains("not there"));
    let mut unlisted = sound.clone();
    unlisted.drain(central..central + 47);
    assert!(
        name(&unlisted).contains("counts other entries") || name(&unlisted).contains("list every")
    );
    assert!(name(b"PK\x07\x07 no record at all").contains("neither"));
}

#[test]
fn f53_a_bomb_is_refused_before_it_goes_off() {
    let zeros = vec![0u8; 64 * 1024 * 1024];
    let packed = miniz_oxide_deflate(&zeros);
    assert!(packed.len() < 500_000);
    let mut zip = stored(&[("bomb", &packed)]);
    zip[8] = 8;
    zip[22..26].copy_from_slice(&u32::try_from(zeros.len()).unwrap().to_le_bytes());
    assert!(walk(&zip, 4096).unwrap_err().contains("100 times"));
}

/// Deflated entries of so many zeros each.
fn zeros(entries: usize, bytes: usize) -> Vec<u8> {
    let content = vec![0u8; bytes];
    let packed = miniz_oxide::deflate::compress_to_vec(&content, 6);
    let crc = u32::try_from(crc_fast::checksum(Crc32IsoHdlc, &content)).unwrap();
    let mut zip = Vec::new();
    for number in 0..entries {
        let at = zip.len();
        zip.extend_from_slice(&stored(&[(&format!("{number:05}"), &packed)]));
        // The directory of each is not needed: what is tested ends before.
        zip.truncate(at + 30 + 5 + packed.len());
        zip[at + 8] = 8;
        zip[at + 14..at + 18].copy_from_slice(&crc.to_le_bytes());
        zip[at + 22..at + 26].copy_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes());
    }
    zip
}

#[test]
fn a_bomb_in_many_small_entries_is_refused_as_early() {
    // S8: each of them is within what one entry may become.
    let mut walk = ZipWalk::default();
    let mut bytes = 0;
    let refused = walk.feed(&zeros(100, 1024 * 1024), &mut |event| {
        if let ZipEvent::Data(data) = event {
            bytes += data.len();
        }
    });
    assert!(refused.unwrap_err().contains("100 times"));
    assert!(bytes < 2 * 1024 * 1024, "{bytes}");
}

#[test]
fn of_an_archive_with_very_many_entries_the_rest_is_not_read() {
    let names: Vec<String> = (0..=MAX_ENTRIES).map(|n| n.to_string()).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, &b"x"[..])).collect();
    let mut walk = ZipWalk::default();
    walk.feed(&stored(&entries[..MAX_ENTRIES]), &mut |_| {})
        .unwrap();
    assert_eq!(
        (walk.finish(), walk.has_too_many_entries()),
        (Ok(true), false)
    );
    let mut walk = ZipWalk::default();
    walk.feed(&stored(&entries), &mut |_| {}).unwrap();
    assert_eq!(
        (walk.finish(), walk.has_too_many_entries()),
        (Ok(false), true)
    );
}

/// Deflate blocks that repeat zeros: one literal and then matches, by the fixed code.
fn miniz_oxide_deflate(zeros: &[u8]) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(1, 1);
    bits.put(1, 2);
    bits.code(0x30, 8);
    let mut left = zeros.len() - 1;
    while left >= 258 {
        // Length 258 is code 285, distance 1 is code 0.
        bits.code(0b1100_0101, 8);
        bits.code(0, 5);
        left -= 258;
    }
    for _ in 0..left {
        bits.code(0x30, 8);
    }
    bits.code(0, 7);
    bits.bytes
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().unwrap();
            *last |= (((value >> bit) & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    /// Huffman codes begin with their highest bit.
    fn code(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            self.put((value >> bit) & 1, 1);
        }
    }
}

/// Archives of other writers: with descriptors, with 64-bit sizes, encrypted ones.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test has to be seen")]
fn archives_of_other_writers_are_read() {
    let script = r#"
import sys, zipfile, io
class Out(io.RawIOBase):
    def __init__(self): self.data = bytearray()
    def writable(self): return True
    def write(self, b): self.data += b; return len(b)
out = Out()
with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
    z.writestr("a.txt", b"hello " * 1000)
    z.writestr("stored.ts", b"PK\x07\x08PKPPPK" * 500, zipfile.ZIP_STORED)
    z.writestr("empty.ts", b"", zipfile.ZIP_STORED)
    i = zipfile.ZipInfo("wide.ts")
    with z.open(i, "w", force_zip64=True) as f: f.write(b"P" * 5000)
    with z.open("big.txt", "w", force_zip64=True) as f: f.write(b"wide " * 1000)
sys.stdout.buffer.write(out.data)
"#;
    let output = Command::new("python3").args(["-c", script]).output();
    let Ok(output) = output.map(|output| output.stdout).map_err(drop) else {
        let is_required = std::env::var("REQUIRE_TEST_TOOLS").is_ok_and(|value| value == "all");
        assert!(
            !is_required,
            "python3 not found, and REQUIRE_TEST_TOOLS=all"
        );
        eprintln!("SKIPPED: python3 not found");
        return;
    };
    for step in [1, 5, 100_000] {
        let (is_whole, found) = walk(&output, step).unwrap();
        assert!(is_whole);
        assert_eq!(found[0].1, b"hello ".repeat(1000));
        assert_eq!(found[1].1, b"PK\x07\x08PKPPPK".repeat(500));
        assert_eq!(found[2].1, b"");
        assert_eq!(found[3].1, b"P".repeat(5000));
        assert_eq!(found[4].1, b"wide ".repeat(1000));
    }
}

/// One entry whose length stands behind it.
fn described(content: &[u8], crc: u32, lengths: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).unwrap();
    let mut zip = b"PK\x03\x04\x14\0\x08\0".to_vec();
    zip.extend_from_slice(&[0; 18]);
    zip.extend_from_slice(&[1, 0, 0, 0, b'a']);
    zip.extend_from_slice(content);
    zip.extend_from_slice(b"PK\x07\x08");
    zip.extend_from_slice(&crc.to_le_bytes());
    zip.extend_from_slice(lengths);
    let start = u32::try_from(zip.len()).unwrap();
    zip.extend_from_slice(b"PK\x01\x02\x14\0\x14\0\x08\0\0\0\0\0\0\0");
    zip.extend_from_slice(&crc.to_le_bytes());
    zip.extend_from_slice(&size.to_le_bytes());
    zip.extend_from_slice(&size.to_le_bytes());
    zip.extend_from_slice(&[1, 0]);
    zip.extend_from_slice(&[0; 16]);
    zip.push(b'a');
    zip.extend_from_slice(b"PK\x05\x06\0\0\0\0\x01\0\x01\0\x2f\0\0\0");
    zip.extend_from_slice(&start.to_le_bytes());
    zip.extend_from_slice(&[0, 0]);
    zip
}

#[test]
fn f53_a_stored_entry_ends_where_its_descriptor_fits() {
    // Another writer leaves the signature out: nobody can tell where the entry ends.
    let unsigned = described(b"media", 0, &[5, 0, 0, 0, 5, 0, 0, 0]);
    let at = unsigned
        .windows(4)
        .position(|at| at == b"PK\x07\x08")
        .unwrap();
    let unsigned = [&unsigned[..at], &unsigned[at + 4..]].concat();
    assert!(!walk(&unsigned, 7).unwrap().0);
    let content = b"some PK\x07\x08 media PK";
    let crc = u32::try_from(crc_fast::checksum(Crc32IsoHdlc, content)).unwrap();
    let size = content.len() as u8;
    let short = [size, 0, 0, 0, size, 0, 0, 0];
    let long = [size, 0, 0, 0, 0, 0, 0, 0, size, 0, 0, 0, 0, 0, 0, 0];
    for lengths in [&short[..], &long] {
        let sound = described(content, crc, lengths);
        for step in [1, 3, 1000] {
            let found = walk(&sound, step).unwrap();
            assert_eq!(found, (true, vec![("a".to_owned(), content.to_vec())]));
        }
        for at in 31..31 + content.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            let error = walk(&damaged, 7).unwrap_err();
            assert!(error.contains("checksum or length"), "byte {at}: {error}");
        }
    }
}

#[test]
fn f53_encrypted_entries_are_seen_and_not_judged() {
    let mut zip = stored(&[("a", b"ciphertext"), ("b", b"plain")]);
    zip[6] |= 1;
    zip[14] ^= 1;
    let central = zip.windows(4).position(|at| at == b"PK\x01\x02").unwrap();
    zip[central + 8] |= 1;
    zip[central + 16] ^= 1;
    let mut walk = ZipWalk::default();
    walk.feed(&zip, &mut |_| {}).unwrap();
    assert!(walk.is_encrypted());
    assert_eq!(walk.finish(), Ok(true));
}

#[test]
fn f53_entries_that_overlap_are_refused() {
    // The directory of the outer archive names an entry inside of another's content.
    let inner = stored(&[("inner", b"shared")]);
    let mut zip = stored(&[("outer", &inner), ("b", b"2")]);
    let second = zip.windows(4).rposition(|at| at == b"PK\x01\x02").unwrap();
    zip[second + 42..second + 46].copy_from_slice(&35u32.to_le_bytes());
    assert!(walk(&zip, 50).unwrap_err().contains("not there"));
    // Two lines of the directory are about one entry.
    let mut zip = stored(&[("a", b"1"), ("b", b"2")]);
    let first = zip.windows(4).position(|at| at == b"PK\x01\x02").unwrap();
    let line = zip[first..first + 47].to_vec();
    zip[first + 47..first + 94].copy_from_slice(&line);
    assert!(walk(&zip, 50).unwrap_err().contains("twice"));
}

#[test]
fn f53_lengths_of_64_bits_are_read() {
    let mut zip = stored(&[("a", b"12345")]);
    let start = zip.windows(4).position(|at| at == b"PK\x01\x02").unwrap();
    let end = zip.windows(4).position(|at| at == b"PK\x05\x06").unwrap();
    let mut extra = vec![1, 0, 16, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
    zip[start + 20..start + 28].fill(0xff);
    zip[start + 30] = 20;
    let mut tail = b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0".to_vec();
    for number in [1u64, 1, 67, start as u64] {
        tail.extend_from_slice(&number.to_le_bytes());
    }
    tail.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    tail.extend_from_slice(&(end as u64 + 20).to_le_bytes());
    tail.extend_from_slice(&[1, 0, 0, 0]);
    zip.splice(end..end, extra.drain(..).chain(tail));
    let (is_whole, found) = walk(&zip, 9).unwrap();
    assert!(is_whole);
    assert_eq!(found[0].1, b"12345");
    let mut wrong = zip.clone();
    let at = start + 47 + 4;
    wrong[at] = 6;
    assert!(walk(&wrong, 9).unwrap_err().contains("not there"));
}

#[test]
fn t17_names_are_bounded_in_all() {
    let names: Vec<String> = (0..400).map(|n| format!("{n:0>60000}")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    assert!(
        walk(&stored(&entries), 1 << 20)
            .unwrap_err()
            .contains("names of its entries")
    );
}

#[test]
fn random_bytes_never_panic() {
    let zip = fixture();
    for seed in 0..2000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut damaged = zip[zip.len() - 600..].to_vec();
        damaged.splice(..0, zip[..300].iter().copied());
        for _ in 0..random.usize(1..20) {
            let at = random.usize(..damaged.len());
            damaged[at] = random.u8(..);
        }
        let _ = walk(&damaged, random.usize(1..200));
    }
}
