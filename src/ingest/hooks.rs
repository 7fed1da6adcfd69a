//! Whether the provider still sends: the state of its webhooks, where its API tells it (Daily).
//!
//! Daily stops sending for the whole domain after three failures in a row, and sends nothing later of what was missed
//! meanwhile. So the state is worth a look, and the way back on is one call.

use super::providers::hooks;
pub use super::providers::hooks::{Hook, HookState};
use crate::error::Result;
use crate::model::Provider;
use crate::model::api::{ApiRequest, ApiResponse, Credentials};

/// The request for the webhooks of an account; `None` where the provider has no such call that we know.
///
/// # Errors
/// As [`lookup_request`](super::lookup_request).
pub fn hooks_request(provider: Provider, credentials: &Credentials) -> Result<Option<ApiRequest>> {
    hooks::request(provider, credentials)
}

/// The webhooks that the answer names.
///
/// # Errors
/// As [`lookup_answer`](super::lookup_answer).
pub fn hooks_answer(provider: Provider, response: &ApiResponse) -> Result<Vec<Hook>> {
    hooks::answer(provider, response)
}

/// The request that switches `hook` on again.
///
/// # Errors
/// As [`lookup_request`](super::lookup_request).
pub fn reactivate_request(
    provider: Provider,
    hook: &Hook,
    credentials: &Credentials,
) -> Result<ApiRequest> {
    hooks::reactivate(provider, hook, credentials)
}

/// Whether the answer to that says that it is on.
///
/// # Errors
/// As [`lookup_answer`](super::lookup_answer).
pub fn reactivate_answer(provider: Provider, response: &ApiResponse) -> Result<()> {
    hooks::reactivated(provider, response)
}
