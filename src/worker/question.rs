//! One question to a provider's API, whose answer may have many pages.

use std::collections::HashSet;

use super::SourceAccess;
use crate::clock::SharedClock;
use crate::error::{Class, Error, Result};
use crate::ingest::{self, LookupPage};
use crate::model::api::{ApiRequest, ApiResponse};
use crate::model::{Artifact, Lookup, Provider};
use crate::source::{Source, Waits};

/// Pages of one answer: a hundred thousand files. A meeting has a few thousand at most; an API that goes on for longer
/// has lost its way.
const PAGES_MAX: usize = 1_000;

/// All that asking a provider's API takes, but for what is asked.
pub(super) struct Question<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) clock: &'a SharedClock,
    pub(super) provider: Provider,
    pub(super) access: &'a SourceAccess,
    /// Where waits for a turn are declared.
    pub(super) waits: Waits,
}

impl<'a> Question<'a> {
    /// What the API answers to `lookup`, all pages of it.
    ///
    /// # Errors
    /// As [`Pages::next`]; [`nothing_found`](ingest::nothing_found) or [`unfinished`](ingest::unfinished) when no page
    /// names a file that could be fetched.
    pub(super) async fn ask(&self, lookup: &Lookup) -> Result<Vec<Artifact>> {
        let mut pages = self.pages(lookup);
        let mut found = Vec::new();
        let mut unfinished = 0;
        while let Some(page) = pages.next().await? {
            if page.has_meant {
                (found, unfinished) = (page.found, page.unfinished);
                break;
            }
            found.extend(page.found);
            unfinished += page.unfinished;
        }
        match (found.is_empty(), unfinished) {
            (false, _) => Ok(found),
            (true, 0) => Err(ingest::nothing_found(self.provider)),
            (true, count) => Err(ingest::unfinished(self.provider, count)),
        }
    }

    /// The answer to `lookup`, to be read page by page.
    pub(super) fn pages<'q>(&'q self, lookup: &'q Lookup) -> Pages<'q> {
        Pages {
            question: self,
            lookup,
            next: Some(None),
            seen: HashSet::new(),
        }
    }
}

/// The pages of an answer.
pub(super) struct Pages<'q> {
    question: &'q Question<'q>,
    lookup: &'q Lookup,
    /// Where the next page begins, if there is one: the first page has no cursor.
    next: Option<Option<String>>,
    /// Cursors of the pages so far.
    seen: HashSet<String>,
}

impl Pages<'_> {
    /// Whether the page that was read last was the last one.
    pub(super) fn is_at_end(&self) -> bool {
        self.next.is_none()
    }

    /// The next page; `None` after the last one.
    ///
    /// # Errors
    /// As [`ingest::lookup_page_request`], [`Source::call`] and [`ingest::lookup_page`] classify them; `partial` for an answer
    /// that goes in a circle or does not end.
    pub(super) async fn next(&mut self) -> Result<Option<LookupPage>> {
        let Some(cursor) = self.next.take() else {
            return Ok(None);
        };
        let Question {
            source,
            clock,
            provider,
            access,
            waits,
        } = self.question;
        let (lookup, credentials) = (self.lookup, &access.credentials);
        let cursor = cursor.as_deref();
        let request =
            ingest::lookup_page_request(*provider, lookup, cursor, credentials, clock.now())?;
        let response = call_in_turn(*source, access, &request, waits).await?;
        let page = ingest::lookup_page(*provider, lookup, &response, clock.now())?;
        if let Some(next) = &page.next {
            let is_new = self.seen.insert(next.clone());
            if !is_new || self.seen.len() >= PAGES_MAX {
                let why = match is_new {
                    true => format!("has more than {PAGES_MAX} pages"),
                    false => "goes in a circle".to_owned(),
                };
                return Err(Error::new(
                    Class::Partial,
                    format!(
                        "read the whole answer of {provider}'s API: it {why}; the files of the pages so far are known"
                    ),
                ));
            }
            self.next = Some(Some(next.clone()));
        }
        Ok(Some(page))
    }
}

/// One call within the source's budget. A 429, or a 503 that says when to come again, holds back whoever asks next.
///
/// # Errors
/// As [`Source::call`].
pub(super) async fn call(
    source: &dyn Source,
    access: &SourceAccess,
    request: &ApiRequest,
) -> Result<ApiResponse> {
    call_in_turn(source, access, request, &Waits::default()).await
}

async fn call_in_turn(
    source: &dyn Source,
    access: &SourceAccess,
    request: &ApiRequest,
    waits: &Waits,
) -> Result<ApiResponse> {
    let _turn = access.pace.turn(waits).await?;
    waits.end();
    let response = source.call(request).await?;
    let is_asked_to_wait = response.status == 503 && response.retry_after.is_some();
    if response.status == 429 || is_asked_to_wait {
        access.pace.hold(response.retry_after);
    }
    Ok(response)
}
