//! A walk over the top-level boxes of an MPEG-4 file (ISO/IEC 14496-12), sizes only.

use super::Proof;

/// The longest box header: 32-bit size, type, 64-bit size.
const LONG_HEADER: usize = 16;

/// The walk.
#[derive(Default)]
pub(super) struct BoxWalk {
    header: Vec<u8>,
    kind: [u8; 4],
    left: u64,
    is_to_end: bool,
    has_trailer: bool,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    ftyp: bool,
    moov: bool,
    mdat: bool,
    moof: bool,
    mfra: bool,
}

impl BoxWalk {
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() && !self.is_to_end && !self.has_trailer {
            if self.left > 0 {
                let step = self.left.min(bytes.len() as u64);
                self.left -= step;
                bytes = &bytes[step as usize..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            self.read_header()?;
        }
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<Proof, String> {
        if self.left > 0 {
            return Err(format!(
                "it ends inside its box `{}`, {} bytes short",
                self.kind.escape_ascii(),
                self.left
            ));
        }
        if !self.header.is_empty() && !self.has_trailer {
            return Err("it ends inside a box header".to_owned());
        }
        for (is_there, kind) in [
            (self.seen.ftyp, "ftyp"),
            (self.seen.moov, "moov"),
            (self.seen.mdat, "mdat"),
        ] {
            if !is_there {
                return Err(format!("it has no `{kind}` box"));
            }
        }
        // Fragments can be cut between two of them without a trace, unless their index is there.
        let could_go_on = self.is_to_end || self.has_trailer || (self.seen.moof && !self.seen.mfra);
        Ok(if could_go_on {
            Proof::None
        } else {
            Proof::Whole
        })
    }

    fn read_header(&mut self) -> Result<(), String> {
        if self.header.len() < 8 {
            return Ok(());
        }
        let short = u64::from(u32::from_be_bytes([
            self.header[0],
            self.header[1],
            self.header[2],
            self.header[3],
        ]));
        self.kind.copy_from_slice(&self.header[4..8]);
        let size = match (short, self.header.len()) {
            (1, length) if length < LONG_HEADER => return Ok(()),
            (1, _) => self.header[8..LONG_HEADER]
                .iter()
                .fold(0u64, |size, byte| (size << 8) | u64::from(*byte)),
            _ => short,
        };
        let is_named = self
            .kind
            .iter()
            .all(|byte| matches!(byte, 0x20..=0x7e | 0xa9));
        let header_len = self.header.len() as u64;
        let is_sound = is_named && (short == 0 || size >= header_len);
        if !is_sound {
            // Some writers leave padding behind the last box.
            if self.seen.moov && self.seen.mdat {
                self.has_trailer = true;
                return Ok(());
            }
            return Err("its boxes can't be followed".to_owned());
        }
        self.note();
        if !self.seen.ftyp {
            return Err(format!(
                "it begins with `{}` instead of `ftyp`",
                self.kind.escape_ascii()
            ));
        }
        self.is_to_end = short == 0;
        self.left = size.saturating_sub(header_len);
        self.header.clear();
        Ok(())
    }

    fn note(&mut self) {
        match &self.kind {
            b"ftyp" => self.seen.ftyp = true,
            b"moov" => self.seen.moov = true,
            b"mdat" => self.seen.mdat = true,
            b"moof" => self.seen.moof = true,
            b"mfra" => self.seen.mfra = true,
            _ => {}
        }
    }
}
