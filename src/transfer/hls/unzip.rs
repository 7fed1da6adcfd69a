//! A ZIP inflated beside the runtime's threads, and never more of it than a bounded piece at a time: a few bytes
//! may become very many.

use bytes::Bytes;
use futures::{Stream, StreamExt, pin_mut};
use tokio::sync::mpsc;

use crate::error::{Class, Error, Result};
use crate::format::zip::{MAX_ENTRIES, ZipEvent, ZipWalk};

/// The most of one step's bytes.
const STEP_BYTES: usize = 64 * 1024;

/// Steps that wait to be taken.
const STEPS: usize = 16;

/// What is inflated and not taken yet, at most.
pub(super) const WAITING_BYTES: u64 = (STEP_BYTES * (STEPS + 1)) as u64;

/// What passes of the archive.
pub(super) enum Step {
    /// An entry begins; its name as it is written.
    Begin(Vec<u8>),
    /// Its next bytes.
    Data(Vec<u8>),
    /// It has ended, and its checksum is right.
    End,
}

/// Where steps go, and where they come from.
pub(super) fn steps() -> (mpsc::Sender<Step>, mpsc::Receiver<Step>) {
    mpsc::channel(STEPS)
}

/// Inflates what `packed` brings and sends it on, as fast as it is taken. When nobody takes any more it just ends.
///
/// # Errors
/// `corrupt` for what is no sound archive, transient where it is cut; `refused` for what is not read in passing; those
/// of `packed`.
pub(super) async fn unzip(
    packed: impl Stream<Item = Result<Bytes>>,
    steps: mpsc::Sender<Step>,
) -> Result<()> {
    let (feed, fed) = mpsc::channel(1);
    let inflating = tokio::task::spawn_blocking(move || inflate(fed, &steps));
    pin_mut!(packed);
    while let Some(bytes) = packed.next().await {
        if feed.send(bytes?).await.is_err() {
            break;
        }
    }
    drop(feed);
    let ended = inflating.await;
    ended.map_err(|error| Error::internal("inflate an archive").with_source(error))?
}

fn inflate(mut fed: mpsc::Receiver<Bytes>, steps: &mpsc::Sender<Step>) -> Result<()> {
    let mut walk = ZipWalk::default();
    while let Some(bytes) = fed.blocking_recv() {
        for piece in bytes.chunks(STEP_BYTES) {
            let mut is_taken = true;
            let mut send = |step| is_taken = is_taken && steps.blocking_send(step).is_ok();
            let walked = walk.feed(piece, &mut |event| match event {
                ZipEvent::Begin(name) => send(Step::Begin(name.to_vec())),
                ZipEvent::Data(data) => {
                    let pieces = data.chunks(STEP_BYTES);
                    pieces.for_each(|piece| send(Step::Data(piece.to_vec())));
                }
                ZipEvent::End => send(Step::End),
            });
            walked.map_err(|why| Error::new(Class::Corrupt, why))?;
            if !is_taken {
                return Ok(());
            }
            if walk.is_encrypted() {
                return Err(Error::new(Class::Refused, "it has encrypted entries"));
            }
            if walk.has_too_many_entries() {
                return Err(too_many_entries());
            }
        }
    }
    match walk.finish() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(
            Class::Refused,
            "an entry tells its length only behind itself",
        )),
        Err(why) => Err(Error::transient(Class::Corrupt, why)),
    }
}

pub(super) fn too_many_entries() -> Error {
    Error::new(
        Class::Refused,
        format!("it has more than {MAX_ENTRIES} entries"),
    )
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn fixture() -> Bytes {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::read(root.join("fixtures/media/hls.zip"))
            .unwrap()
            .into()
    }

    #[tokio::test]
    async fn nothing_is_inflated_ahead_of_who_takes_it() {
        let zip = fixture();
        let (send, mut taken) = steps();
        let unzipping = unzip(stream::iter([Ok(zip)]), send);
        let taking = async {
            let mut bytes = 0;
            while let Some(step) = taken.recv().await {
                assert!(taken.len() <= STEPS);
                if let Step::Data(data) = step {
                    assert!(data.len() <= STEP_BYTES);
                    bytes += data.len();
                }
            }
            bytes
        };
        let (ended, bytes) = tokio::join!(unzipping, taking);
        ended.unwrap();
        assert_eq!(bytes, 90 + 277 + 78_960);
    }

    #[tokio::test]
    async fn it_ends_with_who_takes_it_and_with_who_feeds_it() {
        let (send, taken) = steps();
        drop(taken);
        unzip(stream::iter([Ok(fixture())]), send).await.unwrap();
        let (send, mut taken) = steps();
        let fed = [Ok(fixture().slice(..100)), Err(Error::internal("gone"))];
        let (ended, ()) = tokio::join!(unzip(stream::iter(fed), send), async {
            while taken.recv().await.is_some() {}
        });
        assert_eq!(ended.unwrap_err().full_message(), "gone");
    }
}
