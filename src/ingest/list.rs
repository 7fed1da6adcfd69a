//! Asking a provider what exists: pages of its lists, read as the events that were or should have been sent.
//!
//! What is found makes the same jobs as the webhook would: the same recording, the same identities and names. So
//! it does not matter which of the two comes first, or how often.

use jiff::Timestamp;

use super::providers::list;
pub use super::providers::list::page::{LONGEST_RECORDING, ListPage, ListedThing, Window};
use crate::error::Result;
use crate::model::api::{ApiRequest, ApiResponse, Credentials};
use crate::model::{Event, Provider};

/// The names of the lists that a provider has.
pub fn lists(provider: Provider) -> &'static [&'static str] {
    list::lists(provider)
}

/// The names of the lists that are worth reading only when an operator asks: 100ms's deliveries, which are all events of
/// the whole workspace, those of every participant among them.
pub fn thorough_lists(provider: Provider) -> &'static [&'static str] {
    list::thorough_lists(provider)
}

/// Whether an account has one of its provider's lists only, so that it is no fault when the others refuse: an account
/// of MeetingBaaS is of one version. Elsewhere a list that refuses hides what is on it.
pub fn is_one_enough(provider: Provider) -> bool {
    provider == Provider::MeetingBaas
}

/// The request for a page; `cursor` is the [`next`](ListPage::next) of the page before.
///
/// # Errors
/// As [`lookup_request`](super::lookup_request); `invalid` for a list that the provider does not have.
pub fn list_request(
    provider: Provider,
    list: &str,
    cursor: Option<&str>,
    window: &Window,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<ApiRequest> {
    list::request(provider, list, cursor, window, credentials, now)
}

/// What a page holds.
///
/// # Errors
/// As [`lookup_answer`](super::lookup_answer).
pub fn list_answer(
    provider: Provider,
    list: &str,
    cursor: Option<&str>,
    window: &Window,
    response: &ApiResponse,
    now: Timestamp,
) -> Result<ListPage> {
    list::answer(provider, list, cursor, window, response, now)
}

/// What makes a found event the same as one before: the thing and what it holds. What has come to have more files is
/// news; so is what was asked about and turned out to have some.
pub fn dedupe_key(event: &Event) -> String {
    list::page::dedupe_key(event)
}
