//! What reading a playlist may cost, told from its text alone: never less than it will be.

use url::Url;

use super::{MAX_EXPANDED_BYTES, MAX_LINE_BYTES, Variables};

/// The most that is made of a playlist's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// URI lines: at least so many references.
    pub uri_lines: u64,
    /// References, keys, and places that are noted: at most so many.
    pub notes: u64,
    /// Bytes of what is copied or resolved.
    pub bytes: u64,
}

/// A line of a tag that speaks of the whole playlist: its place is noted.
const HEAD_BYTES: usize = 32;

impl Weight {
    /// Weighs `text`, which came from `base` and may use the variables `imported`.
    pub fn of(text: &[u8], base: &Url, imported: Option<&Variables>) -> Weight {
        let mut weight = Weight::default();
        let base_bytes = base.as_str().len();
        // The longest value that a variable may have by then.
        let mut longest = imported.map_or(0, Variables::longest).max(base_bytes);
        let mut expanded_bytes = 0;
        for line in text.split(|byte| *byte == b'\n') {
            let bytes = line.len();
            let variables = count(line, b"{$");
            if line.starts_with(b"#EXT-X-DEFINE") {
                longest = match variables {
                    0 => longest.max(bytes),
                    _ => MAX_LINE_BYTES,
                };
            }
            let expanded = match variables {
                0 => 0,
                _ => (variables * longest).min(2 * MAX_LINE_BYTES),
            };
            let (notes, copied) = if line.starts_with(b"#EXTINF") {
                (0, 0)
            } else if line.starts_with(b"#EXT") {
                let hidden = count(line, b"?") + count(line, b"@");
                let uris = usize::from(count(line, b"URI") > 0);
                let key = usize::from(line.starts_with(b"#EXT-X-KEY"));
                let copied = match hidden + uris {
                    0 => HEAD_BYTES,
                    _ => HEAD_BYTES + 2 * bytes + uris * (base_bytes + expanded),
                };
                expanded_bytes += uris * expanded;
                (hidden + uris + key, copied)
            } else if line.starts_with(b"#") {
                let is_hidden = count(line, b"://") > 0 && line.contains(&b'?');
                (usize::from(is_hidden), if is_hidden { bytes } else { 0 })
            } else if line.iter().all(u8::is_ascii_whitespace) {
                (0, 0)
            } else {
                weight.uri_lines += 1;
                expanded_bytes += expanded;
                (1, bytes + base_bytes + expanded)
            };
            weight.notes += notes as u64;
            weight.bytes += copied as u64;
        }
        let beyond = expanded_bytes.saturating_sub(MAX_EXPANDED_BYTES + MAX_LINE_BYTES);
        weight.bytes = weight.bytes.saturating_sub(beyond as u64);
        weight
    }
}

fn count(line: &[u8], what: &[u8]) -> usize {
    let Some(first) = what.first() else { return 0 };
    if !line.contains(first) {
        return 0;
    }
    let windows = line.windows(what.len());
    windows.filter(|window| *window == what).count()
}

#[cfg(test)]
mod tests {
    use super::super::Playlist;
    use super::*;

    #[test]
    fn nothing_is_made_of_a_text_that_was_not_weighed() {
        let base = Url::parse("https://cdn.example/a/b/p.m3u8?token=t").unwrap();
        let long = "x".repeat(3000);
        let texts = [
            "#EXTINF:1,\n/\n".repeat(500),
            format!("#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{long}\"\n{}", "#EXTINF:1,\n{$v}/{$v}\n".repeat(50)),
            format!(
                "#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{long}\"\n#EXT-X-DEFINE:NAME=\"w\",VALUE=\"{{$v}}{{$v}}\"\n\
                 {}", "#EXT-X-MAP:URI=\"{$w}\"\n#EXTINF:1,\n{$w}\n".repeat(50)
            ),
            "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:1,\ns\n".repeat(100),
            "#EXT-X-DATERANGE:A=\"https://h/a?token=1\",B=\"https://u@h/\"\n#https://h/?token=1\n#EXTINF:1,\ns\n".repeat(100),
            "#EXT-X-PART:URI=\"p\",DURATION=1\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"q\"\n#EXTINF:1,\ns\n".repeat(100),
        ];
        for text in texts {
            let text = format!("#EXTM3U\n{text}");
            let weight = Weight::of(text.as_bytes(), &base, None);
            let read = Playlist::read(text.as_bytes(), &base, None).unwrap();
            let start = &text[..60];
            assert!(weight.notes >= read.notes(), "{start}: {weight:?}");
            assert!(weight.bytes >= read.url_bytes as u64, "{start}: {weight:?}");
            assert!(weight.uri_lines <= read.references.len() as u64);
            // No more than a few times of it, or nobody could read a large one.
            assert!(weight.notes <= 3 * read.notes(), "{start}: {weight:?}");
        }
    }
}
