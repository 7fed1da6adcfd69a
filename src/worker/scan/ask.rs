//! Asking what a thing on a list has left, where the list does not tell: the chat of a session may be there or not.

use super::known::matches;
use super::pass::{FIRST_WAIT, TRIES, Walk, is_worth_a_retry};
use crate::error::{Class, Error, Result};
use crate::ingest::list;
use crate::model::{Artifact, Event, Lookup, Origin};
use crate::source::Waits;
use crate::store::KnownArtifact;
use crate::worker::lookup;
use crate::worker::question::Question;

/// Questions about single things that may fail in a row before the API counts as down.
const FAILED_ASKS_MAX: u32 = 3;

impl Walk<'_> {
    /// Of files that may be there or not, asks for those that nobody knows; what there is stays.
    pub(super) async fn confirm(
        &mut self,
        mut event: Event,
        known: &[KnownArtifact],
    ) -> Result<Event> {
        let mut there = Vec::new();
        for artifact in std::mem::take(&mut event.artifacts) {
            let is_known = matches(&artifact.identity, known).next().is_some();
            match &artifact.origin {
                Origin::Lookup(call) if !is_known => {
                    there.extend(self.ask(call).await?);
                }
                _ => there.push(artifact),
            }
        }
        event.artifacts = there;
        event.dedupe_key = list::dedupe_key(&event);
        Ok(event)
    }

    /// What there is of something that may not be there. An API that fails at this one question is no reason to miss
    /// all that comes after it; one that fails at several in a row is down.
    async fn ask(&mut self, call: &Lookup) -> Result<Vec<Artifact>> {
        let now = self.walker.clock.now();
        if self.subject.absent.is_fresh(call, now) {
            return Ok(Vec::new());
        }
        let error = match self.answer(call).await {
            Ok(found) => {
                self.failed_asks = 0;
                return Ok(found);
            }
            Err(error) => lookup::name_the_source(error, &self.subject.name),
        };
        match error.class() {
            // There is none, or it can't be told: nothing was announced, so nothing is lost.
            Class::Gone | Class::ProviderFailed | Class::Invalid => {
                self.failed_asks = 0;
                self.subject.absent.note(call, now);
            }
            // Not part of what was bought, or switched off.
            Class::Denied => {
                self.failed_asks = 0;
                self.warn_of_denial(call, &error);
                self.subject.absent.note(call, now);
            }
            Class::Internal => return Err(error),
            _ => {
                self.failed_asks += 1;
                if self.failed_asks >= FAILED_ASKS_MAX {
                    return Err(error);
                }
                tracing::warn!(
                    source = self.subject.name,
                    list = self.list,
                    "could not learn what one of its things has left, asking at the next walk: {}",
                    error.full_message()
                );
                self.walked.trouble.get_or_insert(error);
            }
        }
        Ok(Vec::new())
    }

    async fn answer(&self, call: &Lookup) -> Result<Vec<Artifact>> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            match self.try_answer(call).await {
                Err(error) if is_worth_a_retry(&error) => {
                    self.again_after(&mut wait, "a question", &error).await?;
                }
                other => return other,
            }
        }
        self.try_answer(call).await
    }

    async fn try_answer(&self, call: &Lookup) -> Result<Vec<Artifact>> {
        let question = Question {
            source: self.walker.source.as_ref(),
            clock: &self.walker.clock,
            provider: self.subject.provider,
            access: &self.subject.access,
            waits: Waits::default(),
        };
        self.heeding(question.ask(call)).await
    }

    fn warn_of_denial(&mut self, call: &Lookup, error: &Error) {
        if !self.denied.insert(call.call.clone()) {
            return;
        }
        tracing::warn!(
            source = self.subject.name,
            list = self.list,
            call = call.call,
            "the API does not let us ask for these files, which counts as there being none: {}",
            error.full_message()
        );
    }
}
