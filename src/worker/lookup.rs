//! Asking a provider's API: for the files that a lookup names, and for a fresh URL of one that died.

use secrecy::ExposeSecret as _;

use super::hold::LeaseGuard;
use super::lease::persist;
use super::question::Question;
use super::{SourceAccess, Worker};
use crate::error::{Class, Error, Result};
use crate::ingest;
use crate::model::{Artifact, Deadline, Job, Lookup, Origin};
use crate::signed_url::{SignedUrl, path_identity};
use crate::source::Waits;
use crate::store::LeaseWrite;

/// How `ingest` calls the source in its advice.
const ANY_SOURCE: &str = "sources.<name>";

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
/// As [`Question::ask`].
pub(super) async fn ask(
    worker: &Worker,
    hold: &LeaseGuard,
    job: &Job,
    lookup: &Lookup,
) -> Result<Vec<Artifact>> {
    if let Some(place) = lookup.place() {
        return Ok(vec![at_place(job, place)?]);
    }
    let access = access_of(worker, job);
    let answered = question(worker, job, &access, hold.pulse().waits())
        .ask(lookup)
        .await;
    answered.map_err(|error| name_the_source(error, &job.source))
}

/// What `asked` comes to, unless the attempt that holds `hold` is told to stop.
///
/// # Errors
/// Those of `asked`; transient `internal` when it is.
pub(super) async fn heeding<T>(
    hold: &LeaseGuard,
    asked: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        () = hold.cancel().cancelled() => Err(Error::transient(
            Class::Internal,
            "ask the provider's API: the worker is stopping",
        )),
        answer = asked => answer,
    }
}

/// The last page of what the job, which is a lookup, names. The pages before it are stored as they are read, so that
/// a long answer takes no more memory, and no longer transaction, than a short one, and its first files do not wait for
/// the rest.
///
/// # Errors
/// As [`ask`] and [`Pages::next`](super::question::Pages::next); `internal` when a page can't be stored.
pub(super) async fn files(
    worker: &Worker,
    hold: &LeaseGuard,
    job: &Job,
    call: &Lookup,
) -> Result<Vec<Artifact>> {
    if call.place().is_some() || ingest::names_one_file(call) {
        return heeding(hold, ask(worker, hold, job, call)).await;
    }
    let access = access_of(worker, job);
    let question = question(worker, job, &access, hold.pulse().waits());
    let mut pages = question.pages(call);
    let (mut known, mut unfinished) = (0, 0);
    let named = |error| name_the_source(error, &job.source);
    while let Some(page) = heeding(hold, pages.next()).await.map_err(named)? {
        known += page.found.len();
        unfinished += page.unfinished;
        if pages.is_at_end() && unfinished == 0 && known > 0 {
            return Ok(page.found);
        }
        add_found(worker, hold, page.found).await?;
    }
    Err(match unfinished {
        0 => ingest::nothing_found(job.provider),
        count => ingest::unfinished(job.provider, count),
    })
}

async fn add_found(worker: &Worker, hold: &LeaseGuard, found: Vec<Artifact>) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let (store, lease) = (&worker.store, hold.lease());
    let now = worker.clock.now();
    match persist(worker, || store.add_found(lease, found.clone(), now)).await? {
        LeaseWrite::Yes => {
            worker.bell.notify_one();
            Ok(())
        }
        LeaseWrite::Stale => {
            hold.lose();
            Err(Error::internal("keep what was found: the lease is lost"))
        }
    }
}

/// What the job's source may ask with.
pub(super) fn access_of(worker: &Worker, job: &Job) -> SourceAccess {
    worker.access.get(&job.source).cloned().unwrap_or_default()
}

/// A question about the job's recording.
pub(super) fn question<'a>(
    worker: &'a Worker,
    job: &Job,
    access: &'a SourceAccess,
    waits: Waits,
) -> Question<'a> {
    Question {
        source: worker.source.as_ref(),
        clock: &worker.clock,
        provider: job.provider,
        access,
        waits,
    }
}

/// The job's file at the place that its event named: whether it can be read there shows when it is opened.
fn at_place(job: &Job, place: &str) -> Result<Artifact> {
    let url =
        SignedUrl::usable(place).map_err(|why| Error::invalid(format!("open {place}: {why}")))?;
    Ok(Artifact {
        identity: path_identity(job.kind.as_str(), &url),
        name: job.name.clone(),
        kind: job.kind,
        format: job.format,
        origin: Origin::Url(url),
        remint: None,
        deadline: Deadline::NONE,
        size_bytes: job.size_bytes,
    })
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
        (Origin::Url(fresh), Origin::Url(dead)) => fresh.stable() == dead.stable(),
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
    use crate::model::{Format, JobId, Kind, Provider, Recording, RecordingId};

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
