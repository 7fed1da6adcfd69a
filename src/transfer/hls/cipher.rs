//! Which files of a ladder can be archived decrypted, and with which key: pure.
//!
//! A media playlist is decrypted as a whole or not at all, so that its keys can go altogether. What can't be
//! (SAMPLE-AES, DRM, ranges of an encrypted file) is kept as it is with its keys, and that is said.

use std::collections::HashMap;
use std::sync::Arc;

use super::HlsKeys;
use super::ladder::{MediaPlaylist, PlaylistSet};
use super::plan::is_web;
use super::token::InheritedQuery;
use crate::format::hls::{Kind, Playlist, UriRole, quoted};
use crate::transfer::hls::decrypt::BLOCK_BYTES;

/// How a file is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cipher {
    /// Where its key is.
    pub(super) key_url: String,
    pub(super) is_relative: bool,
    pub(super) iv: [u8; BLOCK_BYTES],
}

/// How each file of one playlist is encrypted, by its URL; `None` for one that is not.
type Ciphers = HashMap<String, Option<Cipher>>;

/// What of a ladder is decrypted.
#[derive(Debug, Default)]
pub(super) struct Decryption {
    ciphers: HashMap<String, (Cipher, Arc<InheritedQuery>)>,
    /// The keys of the playlists of which everything is decrypted.
    sheets: Vec<String>,
    /// Whether that is all of them.
    is_total: bool,
    /// What is kept as ciphertext, and why.
    pub(super) notes: Vec<String>,
}

impl Decryption {
    /// What can be decrypted of `ladder`; nothing unless that is so set.
    pub(super) fn of(ladder: &PlaylistSet, keys: HlsKeys) -> Decryption {
        if keys != HlsKeys::Decrypt {
            return Decryption::default();
        }
        let sheets: Vec<&MediaPlaylist> = ladder
            .sheets()
            .filter(|s| s.playlist.kind == Kind::Media)
            .collect();
        let mut found: Vec<Result<Ciphers, String>> = sheets
            .iter()
            .map(|sheet| ciphers_of(&sheet.playlist))
            .collect();
        while let Some(other) = find_conflict(&sheets, &found) {
            found[other] = Err(
                "another playlist names a file of it, and that one needs the ciphertext".to_owned(),
            );
        }
        let mut decryption = Decryption {
            is_total: found.iter().all(Result::is_ok),
            ..Decryption::default()
        };
        for (sheet, ciphers) in sheets.into_iter().zip(found) {
            match ciphers {
                Ok(ciphers) => {
                    decryption.sheets.push(sheet.key.clone());
                    let ciphers = ciphers
                        .into_iter()
                        .filter_map(|(url, cipher)| Some((url, cipher?)));
                    let ciphers = ciphers.map(|(url, cipher)| (url, (cipher, sheet.token.clone())));
                    decryption.ciphers.extend(ciphers);
                }
                Err(why) => decryption.notes.push(format!(
                    "{} is stored encrypted: {why}",
                    sheet
                        .key
                        .rsplit_once("hls/")
                        .map_or(&*sheet.key, |(_, name)| name)
                )),
            }
        }
        decryption
    }

    /// How the file at `url` is decrypted, and the token of its playlist.
    pub(super) fn cipher(&self, url: &str) -> Option<(Cipher, Arc<InheritedQuery>)> {
        self.ciphers.get(url).cloned()
    }

    /// Whether nothing of the playlist is encrypted any more, so that its keys are of no use.
    pub(super) fn is_plain(&self, sheet: &MediaPlaylist) -> bool {
        match sheet.playlist.kind {
            Kind::Media => self.sheets.contains(&sheet.key),
            Kind::Master => self.is_total,
        }
    }
}

/// A playlist that counts as decrypted and shares a file with one that sees it otherwise.
fn find_conflict(sheets: &[&MediaPlaylist], found: &[Result<Ciphers, String>]) -> Option<usize> {
    let mut seen: HashMap<&str, Option<&Cipher>> = HashMap::new();
    for (sheet, ciphers) in sheets.iter().zip(found) {
        if ciphers.is_err() {
            let files = sheet.playlist.having(|role| *role != UriRole::Key);
            seen.extend(files.map(|(_, found)| (found.url.as_str(), None)));
        }
    }
    for (at, ciphers) in found.iter().enumerate() {
        for (url, cipher) in ciphers.iter().flatten() {
            let before = seen.insert(url, cipher.as_ref());
            if before.is_some_and(|before| before != cipher.as_ref()) {
                return Some(at);
            }
        }
    }
    None
}

/// How each file of a media playlist is encrypted.
///
/// # Errors
/// Why not all of them can be decrypted.
pub(super) fn ciphers_of(playlist: &Playlist) -> Result<Ciphers, String> {
    let mut all = Ciphers::new();
    for segment in &playlist.segments {
        if !playlist.references[segment.reference].is_gap {
            note(
                playlist,
                &mut all,
                segment.reference,
                &segment.keys,
                Some(segment.sequence),
            )?;
        }
    }
    for map in &playlist.maps {
        // Its vector must be written out (RFC 8216 section 4.3.2.5).
        note(playlist, &mut all, map.reference, &map.keys, None)?;
    }
    let is_part = |role: &UriRole| matches!(role, UriRole::Part { is_needed: true });
    if !playlist.keys.is_empty() && playlist.having(is_part).next().is_some() {
        return Err("it ends with parts of a segment".to_owned());
    }
    Ok(all)
}

fn note(
    playlist: &Playlist,
    all: &mut Ciphers,
    reference: usize,
    keys: &[usize],
    sequence: Option<u64>,
) -> Result<(), String> {
    let file = &playlist.references[reference];
    let cipher =
        cipher_of(playlist, keys, sequence).map_err(|why| format!("line {}: {why}", file.line))?;
    if cipher.is_some() && file.range.is_some() {
        return Err(format!(
            "line {}: it is a range of an encrypted file",
            file.line
        ));
    }
    let before = all.insert(file.url.clone(), cipher.clone());
    match before.is_some_and(|before| before != cipher) {
        true => Err(format!(
            "line {}: it was named before with another key or vector",
            file.line
        )),
        false => Ok(()),
    }
}

fn cipher_of(
    playlist: &Playlist,
    keys: &[usize],
    sequence: Option<u64>,
) -> Result<Option<Cipher>, String> {
    if keys.is_empty() {
        return Ok(None);
    }
    let mut keys = keys.iter().map(|key| &playlist.keys[*key]);
    // Each format is another way to the same key; this one is a file.
    let Some(key) = keys.clone().find(|key| key.is_plain()) else {
        let formats: Vec<_> = keys.by_ref().map(|key| quoted(&key.format)).collect();
        return Err(format!("its key is held by {}", formats.join(", ")));
    };
    if key.method != "AES-128" {
        return Err(format!("METHOD={}", quoted(&key.method)));
    }
    let found = &playlist.references[key.reference];
    if !is_web(&found.url) {
        return Err("its key is not at an http address".to_owned());
    }
    let iv = match (&key.iv, sequence) {
        (Some(iv), _) => read_iv(iv).ok_or("its IV is no number of 128 bits")?,
        (None, Some(sequence)) => u128::from(sequence).to_be_bytes(),
        (None, None) => return Err("an encrypted EXT-X-MAP has no IV".to_owned()),
    };
    Ok(Some(Cipher {
        key_url: found.url.clone(),
        is_relative: found.is_relative,
        iv,
    }))
}

fn read_iv(text: &str) -> Option<[u8; BLOCK_BYTES]> {
    let digits = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))?;
    let is_hex = digits.len() <= 2 * BLOCK_BYTES && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let number = is_hex.then(|| u128::from_str_radix(digits, 16).ok())?;
    number.map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn ciphers(text: &str) -> Result<Ciphers, String> {
        let base = Url::parse("https://h/p.m3u8").unwrap();
        let text = format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:258\n{text}#EXT-X-ENDLIST\n");
        ciphers_of(&Playlist::read(text.as_bytes(), &base, None).unwrap())
    }

    #[test]
    fn f49_the_vector_is_written_or_the_sequence_number() {
        let found = ciphers(
            "#EXTINF:1,\nclear\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"l\",IV=0xA0B\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:1,\nb\n\
             #EXT-X-KEY:METHOD=NONE\n#EXT-X-MAP:URI=\"j\"\n#EXTINF:1,\nc\n",
        )
        .unwrap();
        let of = |name: &str| {
            let cipher = found[&format!("https://h/{name}")].as_ref();
            cipher.map(|c| (c.key_url.as_str(), u128::from_be_bytes(c.iv)))
        };
        assert_eq!(of("clear"), None);
        assert_eq!(of("a"), Some(("https://h/k", 259)));
        assert_eq!(of("b"), Some(("https://h/l", 0xa0b)));
        assert_eq!(of("i"), Some(("https://h/l", 0xa0b)));
        assert_eq!((of("j"), of("c")), (None, None));
    }

    #[test]
    fn f49_what_can_not_be_decrypted_says_why() {
        let key = "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"";
        for (text, why) in [
            ("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n#EXTINF:1,\na\n".to_owned(), "line 5: METHOD=SAMPLE-AES"),
            (
                "#EXT-X-KEY:METHOD=AES-128,URI=\"skd://k\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n#EXTINF:1,\na\n".to_owned(),
                "line 5: its key is held by com.apple",
            ),
            (format!("{key}\n#EXTINF:1,\n#EXT-X-BYTERANGE:16@0\na\n"), "line 6: it is a range"),
            (format!("{key}\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:1,\na\n"), "line 4: an encrypted EXT-X-MAP has no IV"),
            (format!("{key}\n#EXTINF:1,\na\n#EXTINF:1,\na\n"), "line 7: it was named before"),
            (format!("{key}\n#EXTINF:1,\na\n#EXT-X-PART:URI=\"p\",DURATION=1\n"), "it ends with parts"),
            ("#EXT-X-KEY:METHOD=AES-128,URI=\"data:x\"\n#EXTINF:1,\na\n".to_owned(), "line 5: its key is not at"),
        ] {
            let found = ciphers(&text).unwrap_err();
            assert!(found.starts_with(why), "{text}: {found}");
        }
        let two = "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://k\",KEYFORMAT=\"x\"\n";
        assert!(ciphers(&format!("{two}{key}\n#EXTINF:1,\na\n")).is_ok());
    }
}
