//! One part, filled from a reader within its memory.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Class, Error};
use crate::object::Payload;
use crate::transfer::download::part::PartBuilder;
use crate::transfer::download::reader::{OriginReader, Stop};
use crate::transfer::memory::shares::{Cover, Memory};
use crate::transfer::plan::MAX_PARTS;

/// Memory is taken before bytes are read; a chunk from the network is hardly ever larger than this.
const CHUNK_BYTES: u64 = 512 * 1024;

/// What is counted as bytes come in.
#[derive(Default)]
pub(in crate::transfer) struct Meter {
    /// Bytes of parts, those included that were in the bucket already.
    pub(in crate::transfer) done: AtomicU64,
    /// Bytes that came in since the last sample.
    pub(in crate::transfer) fresh: AtomicU64,
    /// Microseconds that lanes waited for the origin since then.
    pub(in crate::transfer) waited: AtomicU64,
}

/// Reads one part: `target` bytes, fewer only at the end of content of an unknown length.
pub(in crate::transfer) async fn read_part(
    reader: &mut OriginReader<'_>,
    target: u64,
    is_last: bool,
    memory: &Memory,
    meter: &Meter,
    tell: impl Fn(u64),
) -> Result<(Payload, Cover), Stop> {
    let mut cover = Cover::default();
    let size_bytes = reader.length().map_or(0, |_| target);
    let mut part = PartBuilder::of(size_bytes);
    while part.size_bytes() < target {
        let coming = (part.size_bytes() + CHUNK_BYTES).min(target);
        memory.extend(&mut cover, coming).await?;
        let next = reader.next().await;
        let waited = reader.take_waited().as_micros() as u64;
        meter.waited.fetch_add(waited, Ordering::Relaxed);
        let mut chunk = match next {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(stop) => {
                meter.done.fetch_sub(part.size_bytes(), Ordering::Relaxed);
                return Err(stop);
            }
        };
        let room = usize::try_from(target - part.size_bytes()).unwrap_or(usize::MAX);
        if chunk.len() > room {
            reader.unread(chunk.split_off(room));
        }
        let bytes = chunk.len() as u64;
        meter.fresh.fetch_add(bytes, Ordering::Relaxed);
        tell(meter.done.fetch_add(bytes, Ordering::Relaxed) + bytes);
        part.push(chunk);
    }
    // Read to its end, so that the connection can be used again and nothing more comes unseen.
    if is_last && part.size_bytes() == target && reader.next().await?.is_some() {
        return Err(Stop::Fail(Error::new(
            Class::Refused,
            format!("the object does not fit into {MAX_PARTS} parts"),
        )));
    }
    Ok((part.finish(), cover))
}
