//! Segments that are encrypted as a whole (METHOD=AES-128, RFC 8216 section 4.3.2.4: CBC with PKCS7), as their
//! plain text, while they flow: memory does not grow with their size.
//!
//! What comes out is looked at: a wrong key gives bytes that no player takes, and they must not be archived as
//! if they were media.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::cipher::{AES_128, DecryptionContext, StreamingDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::error::{Class, Error, Result};
use crate::model::api::{ApiRequest, ApiResponse};
use crate::source::{OpenRequest, Opened, Source};

/// The length of a key, of an initialization vector and of a block.
pub(super) const BLOCK_BYTES: usize = 16;

/// How much of the plain text tells what it is: a packet of a transport stream and the first byte of the next.
const HEAD_BYTES: usize = 189;

/// What one file is decrypted with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Secret {
    pub(super) key: [u8; BLOCK_BYTES],
    pub(super) iv: [u8; BLOCK_BYTES],
}

/// The plain text of what was opened. Its length is known only at its end, and it can't be read from the middle.
pub(super) fn plain(opened: Opened, secret: &Secret) -> Result<Opened> {
    let broken = |_| Error::internal("set up AES-128");
    let key = UnboundCipherKey::new(&AES_128, &secret.key).map_err(broken)?;
    let iv = DecryptionContext::Iv128(FixedLength::from(secret.iv));
    let flow = Flow {
        body: opened.body,
        key: Some(StreamingDecryptingKey::cbc_pkcs7(key, iv).map_err(broken)?),
        head: Vec::with_capacity(HEAD_BYTES),
        is_judged: false,
        // A body that may have been cut is no proof against its key.
        is_certain: opened.is_delimited,
    };
    let body = futures::stream::try_unfold(flow, |mut flow| async move {
        let next = flow.next().await?;
        Ok(next.map(|bytes| (bytes, flow)))
    });
    Ok(Opened {
        length: None,
        accepts_ranges: false,
        validator: None,
        body: body.boxed(),
        ..opened
    })
}

struct Flow {
    body: BoxStream<'static, Result<Bytes>>,
    /// `None` behind the end.
    key: Option<StreamingDecryptingKey>,
    head: Vec<u8>,
    is_judged: bool,
    is_certain: bool,
}

impl Flow {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(mut key) = self.key.take() {
            let Some(chunk) = self.body.next().await else {
                return self.last(key);
            };
            let chunk = chunk?;
            let mut out = vec![0; chunk.len() + BLOCK_BYTES];
            let update = key.update(&chunk, &mut out);
            let length = update
                .map_err(|_| self.wrong("the cipher fails"))?
                .written()
                .len();
            out.truncate(length);
            self.key = Some(key);
            if length > 0 {
                self.look_at(&out)?;
                return Ok(Some(out.into()));
            }
        }
        Ok(None)
    }

    fn last(&mut self, key: StreamingDecryptingKey) -> Result<Option<Bytes>> {
        let mut out = vec![0; BLOCK_BYTES];
        let finish = key.finish(&mut out);
        let length = finish
            .map_err(|_| self.wrong("its length or its padding is wrong"))?
            .written()
            .len();
        out.truncate(length);
        self.look_at(&out)?;
        if !self.is_judged {
            self.judge()?;
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    fn look_at(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_judged {
            return Ok(());
        }
        let missing = HEAD_BYTES - self.head.len();
        self.head
            .extend_from_slice(&bytes[..missing.min(bytes.len())]);
        match self.head.len() {
            HEAD_BYTES => self.judge(),
            _ => Ok(()),
        }
    }

    fn judge(&mut self) -> Result<()> {
        self.is_judged = true;
        match is_media(&self.head) {
            true => Ok(()),
            false => Err(self.wrong("what comes out is no media segment")),
        }
    }

    fn wrong(&self, why: &str) -> Error {
        let message = format!("it can't be decrypted with its key: {why}");
        match self.is_certain {
            true => Error::new(Class::Corrupt, message),
            false => Error::transient(Class::Corrupt, message),
        }
    }
}

/// Whether a segment may begin so: a transport stream, fragmented MP4, packed audio or WebVTT (RFC 8216
/// section 3).
fn is_media(head: &[u8]) -> bool {
    let text = head.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(head);
    let is_transport = head.first() == Some(&0x47) && head.get(188).is_none_or(|at| *at == 0x47);
    let is_box = head
        .get(4..8)
        .is_some_and(|name| name.iter().all(u8::is_ascii_lowercase));
    let is_audio = head.starts_with(b"ID3")
        || matches!(head, [0xff, second, ..] if second & 0xe0 == 0xe0)
        || head.starts_with(&[0x0b, 0x77]);
    is_transport || is_box || is_audio || text.starts_with(b"WEBVTT")
}

/// A source of which everything is encrypted with one secret: for a file that is carried part by part.
pub(super) struct Deciphering {
    pub(super) source: Arc<dyn Source>,
    pub(super) secret: Secret,
}

#[async_trait]
impl Source for Deciphering {
    async fn open(&self, request: &OpenRequest) -> Result<Opened> {
        let request = from_its_beginning(request)?;
        plain(self.source.open(&request).await?, &self.secret)
    }

    async fn try_open(&self, request: &OpenRequest) -> Result<Option<Opened>> {
        let request = from_its_beginning(request)?;
        let opened = self.source.try_open(&request).await?;
        opened.map(|opened| plain(opened, &self.secret)).transpose()
    }

    async fn call(&self, request: &ApiRequest) -> Result<ApiResponse> {
        self.source.call(request).await
    }
}

fn from_its_beginning(request: &OpenRequest) -> Result<OpenRequest> {
    if request.range.is_some_and(|range| range.start > 0) {
        return Err(Error::internal("read the middle of an encrypted file"));
    }
    Ok(OpenRequest {
        range: None,
        validator: None,
        ..request.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signed_url::SignedUrl;
    use aws_lc_rs::cipher::{EncryptionContext, PaddedBlockEncryptingKey};

    const SECRET: Secret = Secret {
        key: [1; 16],
        iv: [2; 16],
    };

    fn encrypted(text: &[u8]) -> Vec<u8> {
        let key = UnboundCipherKey::new(&AES_128, &SECRET.key).unwrap();
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).unwrap();
        let mut bytes = text.to_vec();
        let iv = EncryptionContext::Iv128(FixedLength::from(SECRET.iv));
        key.less_safe_encrypt(&mut bytes, iv).unwrap();
        bytes
    }

    async fn decrypted(bytes: &[u8], step: usize, secret: &Secret) -> Result<Vec<u8>> {
        let chunks: Vec<_> = bytes
            .chunks(step)
            .map(|c| Ok(Bytes::copy_from_slice(c)))
            .collect();
        let opened = Opened {
            url: SignedUrl::new("https://h/s.ts"),
            length: Some(bytes.len() as u64),
            start: 0,
            validator: Some("v".to_owned()),
            accepts_ranges: true,
            is_delimited: true,
            content_type: None,
            body: futures::stream::iter(chunks).boxed(),
        };
        let mut body = plain(opened, secret)?.body;
        let mut out = Vec::new();
        while let Some(chunk) = body.next().await {
            out.extend_from_slice(&chunk?);
        }
        Ok(out)
    }

    #[tokio::test]
    async fn the_plain_text_is_the_same_in_any_pieces() {
        for length in [1, 15, 16, 17, 188, 189, 376, 5000] {
            let mut text = vec![0x47; length];
            text[length - 1] = 0x47;
            for step in [1, 7, 16, 8192] {
                let found = decrypted(&encrypted(&text), step, &SECRET).await.unwrap();
                assert_eq!(found, text, "{length} bytes in steps of {step}");
            }
        }
    }

    #[tokio::test]
    async fn f49_a_wrong_key_and_damage_are_noticed() {
        let bytes = encrypted(&[0x47; 5000]);
        let seed = 5;
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..500 {
            let mut key = [0; 16];
            random.fill(&mut key);
            let wrong = Secret { key, ..SECRET };
            let error = decrypted(&bytes, 1000, &wrong).await.unwrap_err();
            assert_eq!(error.class(), Class::Corrupt, "seed {seed}, round {round}");
        }
        for cut in [0, 8, 16, 4999, bytes.len() - 16] {
            assert!(
                decrypted(&bytes[..cut], 1000, &SECRET).await.is_err(),
                "{cut}"
            );
        }
        let page = encrypted(b"not a segment at all");
        assert!(decrypted(&page, 1000, &SECRET).await.is_err());
    }
}
