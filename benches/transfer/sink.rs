//! A bucket that keeps no bytes: it speaks as much S3 as the contenders need, counts what it is sent and throws it
//! away, so that the sink costs everyone the same and as little as can be.
//!
//! Blocking threads and a hand-written HTTP/1.1, because a framework's own cost would stand in every row.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::http1::{Connection, Head};

/// Documents (manifests, reports) are kept: who wrote one may read it again.
const KEPT_BYTES: u64 = 1 << 20;

/// Of every object.
const ETAG: &str = "sink-0";

/// What a run left in the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Objects that are neither documents about others nor playlists, whose text is rewritten.
    pub(crate) objects: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

#[derive(Default)]
struct Bucket {
    objects: HashMap<String, Object>,
    uploads: HashMap<String, Upload>,
    made: u64,
}

#[derive(Clone, Default)]
struct Object {
    size: u64,
    headers: Vec<(String, String)>,
    document: Vec<u8>,
}

#[derive(Default)]
struct Upload {
    headers: Vec<(String, String)>,
    parts: HashMap<u32, u64>,
}

/// The sink, running on threads of this process.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    bucket: Arc<Mutex<Bucket>>,
}

impl Sink {
    pub(crate) fn start() -> io::Result<Sink> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let bucket = Arc::new(Mutex::new(Bucket::default()));
        let shared = Arc::clone(&bucket);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bucket = Arc::clone(&shared);
                // A client that hangs up ends its own thread only.
                std::thread::spawn(move || serve(stream, &bucket));
            }
        });
        Ok(Sink { address, bucket })
    }

    pub(crate) fn empty(&self) {
        *lock(&self.bucket) = Bucket::default();
    }

    pub(crate) fn held(&self) -> Held {
        let bucket = lock(&self.bucket);
        let media = bucket
            .objects
            .iter()
            .filter(|(key, _)| !key.ends_with(".json") && !key.ends_with(".m3u8"));
        media.fold(Held::default(), |held, (_, object)| Held {
            objects: held.objects + 1,
            bytes: held.bytes + object.size,
        })
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, bucket: &Mutex<Bucket>) -> io::Result<()> {
    let mut connection = Connection::new(stream)?;
    while let Some(head) = connection.head()? {
        let keeps = head.path.ends_with(".json");
        let document = connection.take_body(&head, if keeps { KEPT_BYTES } else { 0 })?;
        let answer = answer(&head, document, bucket);
        connection.write_all(&answer.bytes(head.method == "HEAD"))?;
    }
    Ok(())
}

struct Answer {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Told in a HEAD's answer, which has no body.
    length: Option<u64>,
}

impl Answer {
    fn new(status: &'static str) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            length: None,
        }
    }

    fn xml(status: &'static str, body: String) -> Answer {
        Answer {
            headers: vec![("content-type".into(), "application/xml".into())],
            body: body.into_bytes(),
            ..Answer::new(status)
        }
    }

    fn bytes(&self, is_head: bool) -> Vec<u8> {
        let length = self.length.unwrap_or(self.body.len() as u64);
        let mut text = format!("HTTP/1.1 {}\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let _ = write!(text, "content-length: {length}\r\n\r\n");
        let mut bytes = text.into_bytes();
        if !is_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

fn answer(head: &Head, document: Vec<u8>, bucket: &Mutex<Bucket>) -> Answer {
    let (key, query) = (head.path.as_str(), head.query.as_str());
    let is_bucket = key.trim_matches('/').split('/').count() < 2;
    let upload_id = parameter(query, "uploadId");
    let part = parameter(query, "partNumber").and_then(|number| number.parse().ok());
    let mut bucket = lock(bucket);
    let is_object_write = part.is_none() && !query.contains("uploads");
    if is_object_write && !holds(head, bucket.objects.contains_key(key)) {
        return refused("412 Precondition Failed", "PreconditionFailed");
    }
    match (head.method.as_str(), upload_id, part) {
        ("PUT", _, _) if is_bucket => Answer::new("200 OK"),
        ("GET" | "HEAD", None, _) if is_bucket => Answer::xml(
            "200 OK",
            "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".into(),
        ),
        ("POST", None, _) if query.contains("uploads") => {
            bucket.made += 1;
            let id = format!("upload-{}", bucket.made);
            let upload = Upload {
                headers: remembered(head),
                ..Upload::default()
            };
            bucket.uploads.insert(id.clone(), upload);
            Answer::xml(
                "200 OK",
                format!(
                    "<InitiateMultipartUploadResult><Bucket>bench</Bucket><Key>k</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                ),
            )
        }
        ("PUT", Some(id), Some(part)) => match bucket.uploads.get_mut(id) {
            None => refused("404 Not Found", "NoSuchUpload"),
            Some(upload) => {
                upload.parts.insert(part, head.decoded_length());
                with_etag(Answer::new("200 OK"), head)
            }
        },
        ("POST", Some(id), _) => match bucket.uploads.remove(id) {
            None => refused("404 Not Found", "NoSuchUpload"),
            Some(mut upload) => {
                let of_create = std::mem::replace(&mut upload.headers, remembered(head));
                for (name, value) in of_create {
                    // The SDK refuses a header that comes twice.
                    if upload.headers.iter().all(|(known, _)| *known != name) {
                        upload.headers.push((name, value));
                    }
                }
                let object = Object {
                    size: upload.parts.values().sum(),
                    headers: upload.headers,
                    document: Vec::new(),
                };
                bucket.objects.insert(key.to_owned(), object);
                Answer::xml(
                    "200 OK",
                    "<CompleteMultipartUploadResult><ETag>\"sink-0\"</ETag></CompleteMultipartUploadResult>".into(),
                )
            }
        },
        ("DELETE", id, _) => {
            match id {
                Some(id) => drop(bucket.uploads.remove(id)),
                None => drop(bucket.objects.remove(key)),
            }
            Answer::new("204 No Content")
        }
        ("GET", Some(_), _) => refused("404 Not Found", "NoSuchUpload"),
        ("PUT", _, _) => {
            let object = Object {
                size: head.decoded_length(),
                headers: remembered(head),
                document,
            };
            bucket.objects.insert(key.to_owned(), object);
            with_etag(Answer::new("200 OK"), head)
        }
        ("GET" | "HEAD", None, _) => match bucket.objects.get(key) {
            None => refused("404 Not Found", "NoSuchKey"),
            Some(object) => {
                let mut found = with_etag(Answer::new("200 OK"), head);
                found.headers.extend(object.headers.iter().cloned());
                found.headers.push((
                    "last-modified".into(),
                    "Mon, 02 Mar 2026 10:00:00 GMT".into(),
                ));
                if head.method == "HEAD" {
                    found.length = Some(object.size);
                } else {
                    found.body.clone_from(&object.document);
                }
                found
            }
        },
        _ => refused("501 Not Implemented", "NotImplemented"),
    }
}

/// Whether the conditions of a write hold, which S3 checks too.
fn holds(head: &Head, is_there: bool) -> bool {
    head.headers
        .iter()
        .all(|(name, value)| match name.as_str() {
            "if-none-match" => !is_there,
            "if-match" => is_there && value.trim_matches('"') == ETAG,
            _ => true,
        })
}

/// Not the MD5 of anything, so that nobody compares it with one.
fn with_etag(mut answer: Answer, head: &Head) -> Answer {
    answer.headers.push(("etag".into(), format!("\"{ETAG}\"")));
    let checksums = head
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("x-amz-checksum-") && name != "x-amz-checksum-mode");
    answer.headers.extend(checksums.cloned());
    answer
}

/// What a later HEAD shows.
fn remembered(head: &Head) -> Vec<(String, String)> {
    let is_remembered = |name: &str| {
        name.starts_with("x-amz-meta-")
            || name == "content-type"
            || name == "x-amz-checksum-crc64nvme"
            || name == "x-amz-checksum-type"
    };
    let headers = head.headers.iter();
    headers
        .filter(|(name, _)| is_remembered(name))
        .cloned()
        .collect()
}

fn refused(status: &'static str, code: &str) -> Answer {
    Answer::xml(
        status,
        format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"),
    )
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}
