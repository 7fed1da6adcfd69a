//! A request's body on its way to disk: hashed and written in passing, never held as a whole.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use s3s::dto::StreamingBlob;
use s3s::{S3Result, TrailingHeaders, s3_error};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::answers::io_error;
use super::checksum::{Algorithm, Digested, ExpectedBody, Hasher};
use super::files;

/// A body of which nothing comes for so long is given up.
const BODY_IDLE_LIMIT: Duration = Duration::from_secs(30);

/// Chunks that may wait for the disk; hyper makes them at most about 400 KiB.
const CHUNKS_IN_FLIGHT: usize = 8;

/// S3's largest single body: 5 GiB.
const BODY_MAX_BYTES: u64 = 5 << 30;

/// Writes the body aside, synced, and checks it against what the client said before and after it.
pub(super) async fn receive(
    body: Option<StreamingBlob>,
    length: Option<i64>,
    mut expected: ExpectedBody,
    trailers: Option<TrailingHeaders>,
    scratch: &Path,
) -> S3Result<(NamedTempFile, Digested)> {
    if length.is_some_and(|length| length > BODY_MAX_BYTES.cast_signed()) {
        return Err(too_large());
    }
    let file = files::temporary(scratch).map_err(io_error)?;
    let (chunks, writer) = start_writer(&file, Hasher::new(&expected))?;
    let read = pass_on(body, chunks).await;
    let written = writer
        .await
        .map_err(|error| s3_error!(error, InternalError))?;
    let digested = written.map_err(io_error)?;
    let read = read?;
    if digested.size_bytes != read || length.is_some_and(|l| l.cast_unsigned() != read) {
        return Err(s3_error!(
            IncompleteBody,
            "You did not provide the number of bytes specified by the Content-Length HTTP header"
        ));
    }
    if let Some(trailers) = trailers.and_then(|handle| handle.take()) {
        for algorithm in Algorithm::ALL {
            let value = trailers.get(algorithm.header());
            expected = expected.with(algorithm, value.and_then(|v| v.to_str().ok()))?;
        }
    }
    expected.verify(&digested)?;
    Ok((file, digested))
}

type BodyWriter = tokio::task::JoinHandle<std::io::Result<Digested>>;

/// One blocking thread per body: it hashes, writes, and syncs at the end.
fn start_writer(
    file: &NamedTempFile,
    mut hasher: Hasher,
) -> S3Result<(mpsc::Sender<Bytes>, BodyWriter)> {
    let mut output = file.as_file().try_clone().map_err(io_error)?;
    let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = receiver.blocking_recv() {
            hasher.update(&chunk);
            output.write_all(&chunk)?;
        }
        output.sync_data()?;
        Ok(hasher.finish())
    });
    Ok((sender, writer))
}

/// Hands the body to the writer; gives the number of bytes.
async fn pass_on(body: Option<StreamingBlob>, writer: mpsc::Sender<Bytes>) -> S3Result<u64> {
    let Some(mut body) = body else { return Ok(0) };
    let mut read = 0;
    loop {
        let next = tokio::time::timeout(BODY_IDLE_LIMIT, body.next()).await;
        let next = next.map_err(|_| {
            s3_error!(
                RequestTimeout,
                "Your socket connection to the server was not read from or written to within the timeout period."
            )
        })?;
        let Some(chunk) = next else { return Ok(read) };
        let chunk = chunk.map_err(broken_body)?;
        read += chunk.len() as u64;
        if read > BODY_MAX_BYTES {
            return Err(too_large());
        }
        if writer.send(chunk).await.is_err() {
            // The disk refused; the writer's own error says why.
            return Ok(read);
        }
    }
}

/// The front reports a wrong payload hash, and a body that was cut, as a broken stream.
fn broken_body(error: s3s::StdError) -> s3s::S3Error {
    s3s::S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, error)
}

fn too_large() -> s3s::S3Error {
    s3_error!(
        EntityTooLarge,
        "Your proposed upload exceeds the maximum allowed size"
    )
}
