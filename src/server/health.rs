//! `GET /healthz`: the process answers. Says nothing about readiness.

/// Liveness, for probes.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}
