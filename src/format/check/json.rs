//! Whether JSON is complete: brackets and strings are counted as they pass, and what is small is
//! parsed as a whole.

use super::ContentProof;

/// Up to here a document is kept and parsed.
const PARSED_BYTES: usize = 256 * 1024;

#[derive(Default)]
pub(super) struct JsonWalk {
    kept: Vec<u8>,
    is_too_large: bool,
    depth: u64,
    is_in_string: bool,
    is_escaped: bool,
    has_value: bool,
    bom: usize,
}

const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

impl JsonWalk {
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.kept.len() + bytes.len() > PARSED_BYTES {
            self.is_too_large = true;
            self.kept = Vec::new();
        }
        for &byte in bytes {
            self.step(byte)?;
        }
        if !self.is_too_large {
            self.kept.extend_from_slice(bytes);
        }
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<ContentProof, String> {
        if !self.has_value {
            return Err("it holds no value".to_owned());
        }
        if self.depth > 0 || self.is_in_string {
            return Err(format!("it ends with {} brackets open", self.depth));
        }
        if self.is_too_large {
            return Ok(ContentProof::Whole);
        }
        let text = self.kept.strip_prefix(&BOM).unwrap_or(&self.kept);
        serde_json::from_slice::<serde::de::IgnoredAny>(text)
            .map_err(|e| format!("line {}, column {}", e.line(), e.column()))?;
        let last = text.trim_ascii_end().last();
        Ok(match last {
            Some(b'}' | b']' | b'"') => ContentProof::Whole,
            _ => ContentProof::None,
        })
    }

    fn step(&mut self, byte: u8) -> Result<(), String> {
        if !self.has_value && self.bom < BOM.len() && byte == BOM[self.bom] {
            self.bom += 1;
            return Ok(());
        }
        if self.is_in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_in_string = false,
                _ => {}
            }
            return Ok(());
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => return Ok(()),
            _ if self.has_value => {}
            b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {}
            _ => return Err("it does not begin with a value".to_owned()),
        }
        self.has_value = true;
        match byte {
            b'"' => self.is_in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self
                    .depth
                    .checked_sub(1)
                    .ok_or("it closes more brackets than it opens")?;
            }
            _ => {}
        }
        Ok(())
    }
}
