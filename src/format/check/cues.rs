//! The cues of WebVTT and SubRip, line by line: every line of times must hold two times.
//!
//! It is as strict as the field allows: hours may be left out, a comma may stand for the point, cues may
//! overlap and be out of order. What is refused are times that can't be read, as in a file that is cut
//! within them or that is something else.

/// The longest beginning of a line that is kept.
const LINE_BYTES: usize = 4 * 1024;

/// The walk over one file.
#[derive(Default)]
pub(super) struct CueWalk {
    line: Vec<u8>,
    number: u64,
    /// Whether the cue's times were read, so that what follows up to an empty line is what was said.
    is_text: bool,
}

impl CueWalk {
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES - self.line.len();
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.end_line()
    }

    fn end_line(&mut self) -> Result<(), String> {
        self.number += 1;
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim().trim_start_matches('\u{feff}');
        // An arrow in what was said is no line of times, nor is one in a note.
        let is_times =
            !self.is_text && line.contains("-->") && line.starts_with(|c: char| c.is_ascii_digit());
        let is_sound = !is_times || is_cue(line);
        self.is_text = !line.is_empty() && (self.is_text || is_times);
        self.line.clear();
        if is_sound {
            Ok(())
        } else {
            Err(format!("line {} holds no two times", self.number))
        }
    }
}

/// `start --> end`, and settings behind.
fn is_cue(line: &str) -> bool {
    let Some((start, rest)) = line.split_once("-->") else {
        return false;
    };
    let end = rest.split_whitespace().next().unwrap_or_default();
    is_time(start.trim()) && is_time(end)
}

/// `[hh:]mm:ss[.,]mmm`; some writers leave the fraction out.
fn is_time(text: &str) -> bool {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let is_number = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let parts: Vec<_> = whole.split(':').collect();
    let is_clock = match parts.as_slice() {
        [hours, minutes, seconds] => {
            is_number(hours, 6) && is_number(minutes, 2) && is_number(seconds, 2)
        }
        [minutes, seconds] => is_number(minutes, 2) && is_number(seconds, 2),
        _ => false,
    };
    is_clock && is_number(fraction, 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let mut walk = CueWalk::default();
        for piece in text.as_bytes().chunks(3) {
            walk.feed(piece)?;
        }
        walk.finish()
    }

    #[test]
    fn times_of_the_field_are_read() {
        for text in [
            "WEBVTT\n\n00:00.000 --> 00:01.000 align:start\nhi\n",
            "WEBVTT\r\n\r\n100:00:00.000-->100:00:01.000\r\nhi",
            "1\n00:00:00,000 --> 00:00:01,000\nhe said --> go\n",
            "\u{feff}1\n00:00:00.0 --> 0:0:1\nx",
            "WEBVTT\n\nNOTE a --> b\n",
            "1\n00:00:00,000 --> 00:00:01,000\n3 --> 4 of them\n12:30 --> lunch\n\n2\n00:00:02,000 --> 00:00:03,000\nx",
            "",
        ] {
            assert_eq!(check(text), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn times_that_can_not_be_read_are_told_by_line() {
        for (text, line) in [
            ("1\n00:00:00,000 --> \nx", 2),
            ("1\n00:00:00,000 --> x", 2),
            ("1\n0 --> 1", 2),
            (
                "1\n00:00:00,000 --> 00:00:01,000\n3 --> 4\n\n2\n00:00:02,000 --> 0:\n",
                6,
            ),
            ("1\n00:00:00,000,000 --> 00:00:01,000\n", 2),
        ] {
            let expected = format!("line {line} holds no two times");
            assert_eq!(check(text), Err(expected), "{text:?}");
        }
    }
}
