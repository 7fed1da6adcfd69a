//! Reading a webhook's body: never more than its limit, and never more memory for all of them than there is.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rejection::Rejection;

/// All bodies that are in memory at once, in units of [`BODY_UNIT_BYTES`]: 64 MiB.
pub(super) const BODY_UNITS: usize = 64 * 1024;
const BODY_UNIT_BYTES: usize = 1024;

/// Refuses a body that says itself that it is too large, before a byte of it is read.
pub(super) fn check_announced_size(
    headers: &HeaderMap,
    limit_bytes: usize,
) -> Result<(), Rejection> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    match announced {
        Some(length) if length > limit_bytes as u64 => Err(Rejection::TooLarge),
        _ => Ok(()),
    }
}

/// Reads a body of at most `limit_bytes`. Its memory is counted in `bodies` until the permit is dropped.
pub(super) async fn read_body(
    body: Body,
    limit_bytes: usize,
    bodies: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), Rejection> {
    let mut body = body;
    let mut raw = BytesMut::new();
    let mut memory = reserve(bodies, 1)?;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Rejection::Cut)?.into_data() else {
            continue;
        };
        let length_bytes = raw.len() + data.len();
        if length_bytes > limit_bytes {
            return Err(Rejection::TooLarge);
        }
        let units = length_bytes.div_ceil(BODY_UNIT_BYTES);
        if units > memory.num_permits() {
            memory.merge(reserve(bodies, units - memory.num_permits())?);
        }
        raw.extend_from_slice(&data);
    }
    Ok((raw.freeze(), memory))
}

/// Sheds load instead of waiting: a body that waits for memory would keep its sender waiting too.
fn reserve(bodies: &Arc<Semaphore>, units: usize) -> Result<OwnedSemaphorePermit, Rejection> {
    let units = u32::try_from(units).map_err(|_| Rejection::TooLarge)?;
    Arc::clone(bodies)
        .try_acquire_many_owned(units)
        .map_err(|_| Rejection::Overloaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_bodies_runs_out_instead_of_growing() {
        let bodies = Arc::new(Semaphore::new(4));
        let first = reserve(&bodies, 3).unwrap();
        assert!(matches!(reserve(&bodies, 2), Err(Rejection::Overloaded)));
        drop(first);
        assert!(reserve(&bodies, 4).is_ok());
    }
}
