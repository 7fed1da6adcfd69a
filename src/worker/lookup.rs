//! Asking a provider's API: for the files that a lookup names, and for a fresh URL of one that died.

use secrecy::ExposeSecret as _;

use super::{SourceAccess, Worker};
use crate::clock::SharedClock;
use crate::error::{Class, Error, Result};
use crate::ingest;
use crate::model::api::{ApiRequest, ApiResponse};
use crate::model::{Artifact, Deadline, Job, Lookup, Origin, Provider, Recording};
use crate::signed_url::SignedUrl;
use crate::source::Source;

/// How `ingest` calls the source in its advice.
const ANY_SOURCE: &str = "sources.<name>";

/// Pages of one answer: no event names more files than fit on ten.
const PAGES_MAX: usize = 11;

/// How a fresh URL of the job's file can be had: only with a call for it and with credentials.
pub(super) fn remint_call(worker: &Worker, job: &Job) -> Option<Lookup> {
    let access = worker.access.get(&job.source)?;
    if has_credentials(access) {
        job.remint.clone()
    } else {
        None
    }
}

/// What the provider's API answers to `lookup`.
///
/// # Errors
/// As [`ingest::lookup_request`], [`Source::call`] and
/// [`ingest::lookup_answer`] classify them.
pub(super) async fn ask(worker: &Worker, job: &Job, lookup: &Lookup) -> Result<Vec<Artifact>> {
    if let Some(place) = lookup.place() {
        return Ok(vec![at_place(job, place)?]);
    }
    let nothing = SourceAccess::default();
    let access = worker.access.get(&job.source).unwrap_or(&nothing);
    let question = Question {
        source: worker.source.as_ref(),
        clock: &worker.clock,
        provider: job.provider,
        access,
        recording: &job.recording,
    };
    let answered = question.ask(lookup).await;
    answered.map_err(|error| name_the_source(error, &job.source))
}

/// The job's file at the place that its event named: whether it can be read there shows when it is opened.
fn at_place(job: &Job, place: &str) -> Result<Artifact> {
    let url =
        SignedUrl::usable(place).map_err(|why| Error::invalid(format!("open {place}: {why}")))?;
    Ok(Artifact {
        identity: format!("url:{}:{}", job.kind.as_str(), url.path()),
        name: job.name.clone(),
        kind: job.kind,
        format: job.format,
        origin: Origin::Url(url),
        remint: None,
        deadline: Deadline::NONE,
        size_bytes: job.size_bytes,
    })
}

/// All that asking a provider's API takes, but for what is asked.
pub(super) struct Question<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) clock: &'a SharedClock,
    pub(super) provider: Provider,
    pub(super) access: &'a SourceAccess,
    /// Whose files they are.
    pub(super) recording: &'a Recording,
}

impl Question<'_> {
    /// What the API answers to `lookup`, all pages of it.
    pub(super) async fn ask(&self, lookup: &Lookup) -> Result<Vec<Artifact>> {
        let (provider, credentials) = (self.provider, &self.access.credentials);
        let now = self.clock.now();
        let request = ingest::lookup_request(provider, lookup, credentials, now)?;
        let mut response = call(self.source, self.access, &request).await?;
        for _ in 1..PAGES_MAX {
            let now = self.clock.now();
            let next = ingest::lookup_next(provider, lookup, &response, credentials, now)?;
            let Some(request) = next else { break };
            let page = call(self.source, self.access, &request).await?;
            response = ingest::lookup_joined(provider, &response, page);
        }
        let now = self.clock.now();
        ingest::lookup_answer(provider, lookup, &response, self.recording, now)
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
    let _turn = access.pace.turn().await?;
    let response = source.call(request).await?;
    let is_asked_to_wait = response.status == 503 && response.retry_after.is_some();
    if response.status == 429 || is_asked_to_wait {
        access.pace.hold(response.retry_after);
    }
    Ok(response)
}

/// The one of `found`, the answer to `lookup`, that is the job's file. Its place may be another lookup, which is
/// to be asked in turn.
///
/// # Errors
/// `gone` when the answer does not name the file any more, or not clearly; the class of an unusable
/// place otherwise.
pub(super) fn matching(job: &Job, lookup: &Lookup, found: Vec<Artifact>) -> Result<Artifact> {
    let by_name = |artifact: &Artifact| artifact.name == job.name;
    let by_sort = |artifact: &Artifact| artifact.kind == job.kind && artifact.format == job.format;
    let position = found
        .iter()
        .position(|artifact| is_same_path(artifact, job));
    let position = position.or_else(|| only(&found, by_name));
    let position = position.or_else(|| only(&found, by_sort));
    // Where the question names one file, the answer may still sort it differently (a track of sound as video).
    let is_alone = |artifact: &Artifact| found.len() == 1 && artifact.format == job.format;
    let named_alone = || only(&found, is_alone).filter(|_| ingest::names_one_file(lookup));
    let Some(position) = position.or_else(named_alone) else {
        return Err(Error::new(
            Class::Gone,
            format!("find {} in the answer of the provider's API", job.name),
        ));
    };
    let artifact = found.into_iter().nth(position);
    let artifact = artifact.expect("the position was found in this very list");
    match &artifact.origin {
        Origin::Url(_) | Origin::Inline(_) | Origin::Event | Origin::Lookup(_) => Ok(artifact),
        Origin::Unusable(class, message) => Err(Error::new(*class, message.clone())),
    }
}

fn has_credentials(access: &SourceAccess) -> bool {
    let key = access.credentials.api_key.as_ref();
    key.is_some_and(|key| !key.expose_secret().is_empty())
}

/// `ingest` does not know how the operator named the source; advice has to.
pub(super) fn name_the_source(error: Error, source: &str) -> Error {
    let message = error.full_message();
    if !message.contains(ANY_SOURCE) {
        // What else an error tells (that it passes, when to come again) must not be lost.
        return error;
    }
    let message = message.replace(ANY_SOURCE, &format!("sources.{source}"));
    Error::new(error.class(), message)
}

/// A fresh signature leaves the path as it is.
fn is_same_path(artifact: &Artifact, job: &Job) -> bool {
    match (&artifact.origin, &job.origin) {
        (Origin::Url(fresh), Origin::Url(dead)) => fresh.to_string() == dead.to_string(),
        _ => false,
    }
}

/// The position of the only one that fits.
fn only(found: &[Artifact], fits: impl Fn(&Artifact) -> bool) -> Option<usize> {
    let mut fitting = (0..found.len()).filter(|&position| fits(&found[position]));
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::{Format, JobId, Kind, RecordingId};

    fn job(name: &str, url: &str) -> Job {
        Job {
            id: JobId(Uuid::from_u128(1)),
            recording_id: RecordingId(Uuid::from_u128(2)),
            recording: Recording::default(),
            provider: Provider::Daily,
            source: "daily".to_owned(),
            name: name.to_owned(),
            kind: Kind::Video,
            format: Format::Mp4,
            origin: Origin::Url(SignedUrl::new(url)),
            remint: None,
            deadline: Deadline::NONE,
            size_bytes: None,
            key: "key".to_owned(),
            attempts: 1,
            lease_token: 1,
            first_attempt_at: Timestamp::UNIX_EPOCH,
            checkpoint: None,
        }
    }

    fn found(name: &str, kind: Kind, url: &str) -> Artifact {
        Artifact {
            identity: name.to_owned(),
            name: name.to_owned(),
            kind,
            format: Format::Mp4,
            origin: Origin::Url(SignedUrl::new(url)),
            remint: None,
            deadline: Deadline::NONE,
            size_bytes: None,
        }
    }

    #[test]
    fn the_same_path_under_a_fresh_signature_is_the_same_file() {
        let dead = job("recording-2.mp4", "https://cdn.example/b.mp4?sig=old");
        let answer = vec![
            found(
                "recording.mp4",
                Kind::Video,
                "https://cdn.example/a.mp4?sig=1",
            ),
            found(
                "recording-2.mp4",
                Kind::Video,
                "https://cdn.example/c.mp4?sig=2",
            ),
            found(
                "recording-3.mp4",
                Kind::Video,
                "https://cdn.example/b.mp4?sig=3",
            ),
        ];
        assert_eq!(
            matching(&dead, &anything(), answer).unwrap().name,
            "recording-3.mp4"
        );
    }

    #[test]
    fn another_path_is_matched_by_name_and_then_by_being_the_only_one_of_its_sort() {
        let dead = job("recording.mp4", "https://old.example/x?sig=old");
        let by_name = vec![
            found("layer-0.mp4", Kind::Video, "https://cdn.example/1"),
            found("recording.mp4", Kind::Video, "https://cdn.example/2"),
        ];
        assert_eq!(
            matching(&dead, &anything(), by_name).unwrap().name,
            "recording.mp4"
        );
        let by_sort = vec![
            found("sound.mp4", Kind::Audio, "https://cdn.example/1"),
            found("other.mp4", Kind::Video, "https://cdn.example/2"),
        ];
        assert_eq!(
            matching(&dead, &anything(), by_sort).unwrap().name,
            "other.mp4"
        );
    }

    #[test]
    fn two_that_could_be_meant_are_not_guessed_between() {
        let dead = job("recording.mp4", "https://old.example/x?sig=old");
        let answer = vec![
            found("a.mp4", Kind::Video, "https://cdn.example/1"),
            found("b.mp4", Kind::Video, "https://cdn.example/2"),
        ];
        assert_eq!(
            matching(&dead, &anything(), answer).unwrap_err().class(),
            Class::Gone
        );
    }

    fn anything() -> Lookup {
        Lookup {
            call: "daily-recording".to_owned(),
            id: "r".to_owned(),
        }
    }

    #[test]
    fn what_a_question_names_is_the_file_whatever_its_answer_sorts_it_as() {
        let mut dead = job("track-1.mp4", "https://old.example/x?sig=old");
        dead.kind = Kind::Audio;
        let answer = || vec![found("track.mp4", Kind::Video, "https://cdn.example/1")];
        let by_path = Lookup {
            call: "hms-recording".to_owned(),
            id: "r#s3://b/x.mp4".to_owned(),
        };
        assert!(matching(&dead, &by_path, answer()).is_ok());
        assert!(matching(&dead, &anything(), answer()).is_err());
    }

    #[test]
    fn advice_names_the_source_as_the_operator_does() {
        let error = Error::new(Class::Denied, "ask Daily: set sources.<name>.api_key");
        let named = name_the_source(error, "daily-eu");
        assert_eq!(
            named.full_message(),
            "ask Daily: set sources.daily-eu.api_key"
        );
        assert_eq!(named.class(), Class::Denied);
        let wait = Some(std::time::Duration::from_secs(7));
        let passing = Error::transient(Class::Throttled, "ask Daily").with_retry_after(wait);
        let named = name_the_source(passing, "daily-eu");
        assert!(named.is_transient() && named.retry_after() == wait);
    }
}
