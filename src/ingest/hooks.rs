//! Whether the provider still sends: the state of its webhooks, where its API tells it (Daily).
//!
//! Daily stops sending for the whole domain after three failures in a row, and sends nothing later of what was missed
//! meanwhile. So the state is worth a look, and the way back on is one call.

use super::providers::hooks;
use crate::error::Result;
use crate::model::Provider;
use crate::model::api::{ApiRequest, ApiResponse, Credentials};

/// One webhook as the provider sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The provider's id of it.
    pub id: String,
    /// Where it sends to, without query.
    pub shown_url: String,
    /// The same as the provider has it, which may hold a secret.
    pub url: crate::signed_url::SignedUrl,
    /// Whether it sends.
    pub state: HookState,
    /// Failures in a row.
    pub failed_count: Option<u64>,
}

impl Hook {
    /// Whether it leads to the source called `source`: a proxy may give us any host and any beginning of the path.
    pub fn leads_to(&self, source: &str) -> bool {
        let path = self.url.path();
        let rest = path.trim_end_matches('/').strip_suffix(source);
        rest.is_some_and(|rest| rest.ends_with("/webhooks/"))
    }
}

/// Whether a webhook sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It does.
    Active,
    /// It was switched off after failures.
    Failed,
    /// Something else, such as stopped by an operator.
    Other,
}

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
