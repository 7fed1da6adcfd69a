//! File descriptors: each connection takes one, and where none is left nothing works any more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Error, Result};
use crate::server::listen::HttpLimits;

/// With fewer neither the listeners nor the transfers can do their work.
const DESCRIPTORS_MIN: u64 = 256;

/// More are of no use: what a system gives by default may be a billion.
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// Lets this process have as many descriptors as the system allows it; says how many those are.
///
/// # Errors
/// `invalid` when they are too few.
pub(super) fn raise() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .unwrap_or(DESCRIPTORS_MAX)
        .min(DESCRIPTORS_MAX);
    let mut given = limit.current.unwrap_or(DESCRIPTORS_MAX);
    if given < wanted {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => given = wanted,
            Err(error) => tracing::debug!(%error, given, "can't raise the limit of descriptors"),
        }
    }
    if given < DESCRIPTORS_MIN {
        return Err(Error::invalid(format!(
            "start with {given} file descriptors: at least {DESCRIPTORS_MIN} are needed; raise the limit (`ulimit -n`, LimitNOFILE of systemd)"
        )));
    }
    Ok(given)
}

/// What a listener grants: with `descriptors` for the process it may have one in `share` for its connections.
pub(super) fn http_limits(descriptors: u64, share: u64) -> HttpLimits {
    let usual = HttpLimits::default();
    let most = usize::try_from(descriptors / share).unwrap_or(usize::MAX);
    HttpLimits {
        max_connections: usual.max_connections.min(most),
        ..usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_leaves_descriptors_for_the_work() {
        assert_eq!(http_limits(1024, 4).max_connections, 256);
        assert_eq!(http_limits(1024, 16).max_connections, 64);
        assert_eq!(http_limits(1 << 20, 4).max_connections, 1024);
    }
}
