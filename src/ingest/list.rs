//! Asking a provider what exists: pages of its lists, read as the events that were or should have been sent.
//!
//! What is found makes the same jobs as the webhook would: the same recording, the same identities and names. So
//! it does not matter which of the two comes first, or how often.

use jiff::{SignedDuration, Timestamp};

use super::providers::list;
use crate::error::Result;
use crate::model::api::{ApiRequest, ApiResponse, Credentials};
use crate::model::{Event, Provider};

/// No recording is longer: lists are sorted and cut by the start of things, and what counts is their end.
pub const LONGEST_RECORDING: SignedDuration = SignedDuration::from_hours(24);

/// The time in which things ended that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From here on.
    pub since: Timestamp,
    /// Up to here, exclusive.
    pub until: Timestamp,
}

impl Window {
    /// Whether something that ended `at` is inside; what has no date may always be.
    pub fn holds(&self, at: Option<Timestamp>) -> bool {
        at.is_none_or(|at| self.since <= at && at < self.until)
    }

    /// The earliest start of what may have ended inside.
    pub fn earliest_start(&self) -> Timestamp {
        self.since
            .saturating_sub(LONGEST_RECORDING)
            .unwrap_or(Timestamp::MIN)
    }
}

/// One thing on a list.
#[derive(Clone, Debug)]
pub struct ListedThing {
    /// The event that tells of it. Its time is that of the thing itself, so that it never counts as fresher than what
    /// the provider's own event said.
    pub event: Event,
    /// Whether its files exist. The chat of a session, say, may be there or not: that has to be asked first.
    pub is_certain: bool,
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// What is on it, inside the window, and finished.
    pub found: Vec<ListedThing>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<String>,
    /// The list is sorted from new to old, and everything after this page is too old.
    pub reached_since: bool,
    /// How many things the whole list has, where it is told: fewer than before means that some have moved up from a
    /// page to come to one that was read already.
    pub total: Option<u64>,
    /// Whether things on it have no date, so that only their being known says that the walk has gone far enough.
    pub is_undated: bool,
}

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

/// The request for a page; `cursor` is the [`next`](Page::next) of the page before.
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
    list::dedupe_key(event)
}
