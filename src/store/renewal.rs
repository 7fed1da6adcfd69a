//! What another delivery of a known event is good for: providers sign the URLs of an event anew when they send it
//! again, under the same id. Where such a URL outlives the one that is known, its file is announced as by a new event.

use std::collections::HashMap;

use jiff::Timestamp;

use super::intake::{Announcement, FreshId, JobSlot, RecordingChanges};
use super::{NewEvent, Recorded};
use crate::error::Class;
use crate::model::{Artifact, Deadline, EventId, JobId, Origin, RecordingId, State};
use crate::signed_url::SignedUrl;

/// What is known of a job whose file is not in the bucket: where it stands, and the URL that it has.
#[derive(Clone, Debug)]
pub(super) struct UnarchivedJob {
    pub recording: RecordingId,
    pub identity: String,
    pub state: State,
    /// Why its last attempt failed.
    pub class: Option<Class>,
    /// Where its bytes are; `None` when that can't be read.
    pub origin: Option<Origin>,
    /// Until when they can be had.
    pub deadline: Deadline,
}

impl UnarchivedJob {
    /// That of a job on the shelf whose origin is to be written yet.
    fn of(slot: &JobSlot, artifact: &Artifact, recording: RecordingId) -> UnarchivedJob {
        UnarchivedJob {
            recording,
            identity: slot.identity.clone(),
            state: slot.state,
            class: None,
            origin: Some(artifact.origin.clone()),
            deadline: artifact.deadline,
        }
    }

    /// Whether `told` brings a URL that lives longer than the known one. Without an expiry of both only a job whose URL
    /// is dead has nothing to lose by another: a documented lifetime is counted from the event, and tells neither. An
    /// expiry of a URL that was refused has proved nothing.
    fn is_renewed_by(&self, told: &Artifact, now: Timestamp) -> bool {
        let Origin::Url(url) = &told.origin else {
            return false;
        };
        let known = match &self.origin {
            Some(Origin::Url(known)) => Some(known),
            _ => None,
        };
        let until = told.deadline.certain();
        if known == Some(url) || until.is_some_and(|until| until <= now) {
            return false;
        }
        let by_its_url = [Class::Expired, Class::Denied, Class::Gone, Class::Refused];
        let is_refused = self.class.is_some_and(|class| by_its_url.contains(&class));
        let is_dying = match self.state {
            State::Failed | State::Expired => true,
            State::Pending | State::Running => is_refused || self.deadline.is_past(now),
            State::Archived | State::Cancelled => return false,
        };
        // Where the old URL was erased, it may be this one: only an expiry that is its own tells it apart.
        let is_erased = match &self.origin {
            Some(Origin::Unusable(class, _)) => *class == Class::Expired,
            _ => known.is_some_and(|known| is_stripped(known, url)),
        };
        match (self.deadline.certain(), until) {
            (Some(known), Some(until)) => until > known || (is_refused && !is_erased),
            // The known one had none.
            (None, Some(_)) => is_dying,
            (_, None) => is_dying && !is_erased,
        }
    }
}

/// Whether `known` is what the purge leaves of `url`.
fn is_stripped(known: &SignedUrl, url: &SignedUrl) -> bool {
    let (path, _) = url.expose().split_once('?').unwrap_or((url.expose(), ""));
    known.expose() == path && known.header().is_none()
}

/// Whether a delivery of a known event may bring anything fresh at all.
pub(super) fn has_urls(new: &NewEvent) -> bool {
    let mut artifacts = new.event.artifacts.iter();
    artifacts.any(|artifact| matches!(artifact.origin, Origin::Url(_)))
}

/// Jobs by recording and identity.
#[derive(Debug, Default)]
pub(super) struct UnarchivedJobs(HashMap<RecordingId, HashMap<String, UnarchivedJob>>);

impl UnarchivedJobs {
    pub(super) fn of(standings: Vec<UnarchivedJob>) -> UnarchivedJobs {
        let mut all = UnarchivedJobs::default();
        for standing in standings {
            let of_recording = all.0.entry(standing.recording).or_default();
            of_recording.insert(standing.identity.clone(), standing);
        }
        all
    }

    fn get(&self, recording: RecordingId, identity: &str) -> Option<&UnarchivedJob> {
        self.0.get(&recording)?.get(identity)
    }

    /// Whether `new`, another delivery of a known event about `recording`, renews the URL of one of its jobs.
    pub(super) fn has_renewed(&self, recording: Option<RecordingId>, new: &NewEvent) -> bool {
        let Some(recording) = recording else {
            return false;
        };
        new.event.artifacts.iter().any(|artifact| {
            let standing = self.get(recording, &artifact.identity);
            standing.is_some_and(|standing| standing.is_renewed_by(artifact, new.received_at))
        })
    }
}

impl RecordingChanges {
    /// Takes in another delivery of the event `event_id`: the URLs that outlive those of `standings` or of this shelf. Answers
    /// with the jobs that have them now.
    pub(super) fn renew(
        &mut self,
        new: &NewEvent,
        event_id: EventId,
        standings: &UnarchivedJobs,
        fresh_id: FreshId<'_>,
    ) -> Vec<JobId> {
        let told: HashMap<&str, &Artifact> = new
            .event
            .artifacts
            .iter()
            .map(|artifact| (&*artifact.identity, artifact))
            .collect();
        let renewed: Vec<(&Artifact, Timestamp)> = self
            .jobs
            .iter()
            .filter_map(|slot| {
                let artifact = *told.get(&*slot.identity)?;
                let is_renewed = match &slot.fresh {
                    Some(fresh) => UnarchivedJob::of(slot, fresh, self.id)
                        .is_renewed_by(artifact, new.received_at),
                    None => standings
                        .get(self.id, &slot.identity)?
                        .is_renewed_by(artifact, new.received_at),
                };
                is_renewed.then_some((artifact, slot.announced_at))
            })
            .collect();
        if renewed.is_empty() {
            return Vec::new();
        }
        self.changed_at = new.received_at;
        let at = new.event.event_time.unwrap_or(new.received_at);
        let mut jobs = Vec::with_capacity(renewed.len());
        for (artifact, announced_at) in renewed {
            let announcement = Announcement {
                event: Some(event_id),
                // The event is as old as it was, but its URL is younger than that of any event since.
                at: at.max(announced_at),
                found_by: None,
            };
            jobs.extend(self.announce(artifact.clone(), announcement, fresh_id));
        }
        jobs
    }
}

impl Recorded {
    /// Whether there is work that was not there before.
    pub fn has_work(&self) -> bool {
        match self.is_duplicate {
            true => !self.renewed.is_empty(),
            false => !self.jobs.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::model::{DeadlineFrom, Format, Kind};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn url(signature: &str) -> Origin {
        Origin::Url(SignedUrl::new(format!("https://h/v.mp4?sig={signature}")))
    }

    fn told(signature: &str, deadline: Option<i64>) -> Artifact {
        let deadline = deadline.map(|seconds| Deadline::at(at(seconds), DeadlineFrom::Query));
        Artifact {
            identity: "v".to_owned(),
            name: "recording.mp4".to_owned(),
            kind: Kind::Video,
            format: Format::Mp4,
            origin: url(signature),
            remint: None,
            deadline: deadline.unwrap_or(Deadline::NONE),
            size_bytes: None,
        }
    }

    fn known(state: State, deadline: Option<i64>) -> UnarchivedJob {
        UnarchivedJob {
            recording: RecordingId(uuid::Uuid::nil()),
            identity: "v".to_owned(),
            state,
            class: None,
            origin: Some(url("old")),
            deadline: deadline.map_or(Deadline::NONE, |seconds| {
                Deadline::at(at(seconds), DeadlineFrom::Query)
            }),
        }
    }

    /// With a guessed end instead of one of its own.
    fn guessed(deadline: i64) -> Deadline {
        Deadline::at(at(deadline), DeadlineFrom::Documented)
    }

    /// The guess is counted from the event's time, which is the same in each delivery.
    #[test]
    fn a_guessed_end_tells_no_url_from_another() {
        use State::*;
        const NOW: i64 = 100;
        for (state, known_until, told_until, is_renewed) in [
            (Expired, guessed(90), guessed(90), true),
            (Failed, guessed(90), guessed(90), true),
            (Failed, guessed(150), guessed(150), true),
            (Pending, guessed(90), guessed(90), true),
            (Pending, guessed(150), guessed(150), false),
            // One that was read counts, even when it is the earlier one.
            (
                Failed,
                guessed(900),
                Deadline::at(at(200), DeadlineFrom::Query),
                true,
            ),
            (
                Failed,
                guessed(900),
                Deadline::at(at(90), DeadlineFrom::Query),
                false,
            ),
        ] {
            let known = UnarchivedJob {
                deadline: known_until,
                ..known(state, None)
            };
            let mut told = told("new", None);
            told.deadline = told_until;
            let is_so = known.is_renewed_by(&told, at(NOW));
            assert_eq!(is_so, is_renewed, "{state} {known_until:?} {told_until:?}");
        }
    }

    /// A forged event, or credentials that ended before the URLs that they signed: what it promised must not keep out one
    /// that lives.
    #[test]
    fn a_url_that_was_refused_has_promised_nothing() {
        use State::*;
        for (state, class, is_renewed) in [
            (Expired, Class::Expired, true),
            (Failed, Class::Denied, true),
            (Failed, Class::Gone, true),
            // It names a host that we do not go to.
            (Failed, Class::Refused, true),
            (Pending, Class::Denied, true),
            (Failed, Class::Corrupt, false),
            (Pending, Class::Unreachable, false),
        ] {
            let refused = UnarchivedJob {
                class: Some(class),
                ..known(state, Some(9000))
            };
            let is_so = refused.is_renewed_by(&told("new", Some(200)), at(100));
            assert_eq!(is_so, is_renewed, "{state} {class}");
            assert!(!refused.is_renewed_by(&told("new", Some(90)), at(100)));
            assert!(!refused.is_renewed_by(&told("old", Some(200)), at(100)));
        }
    }

    #[test]
    fn a_url_renews_what_it_outlives() {
        use State::*;
        const NOW: i64 = 100;
        for (state, known_until, told_until, is_renewed) in [
            // Both expiries are known: the later one wins.
            (Pending, Some(90), Some(200), true),
            (Pending, Some(150), Some(200), true),
            (Running, Some(150), Some(200), true),
            (Failed, Some(150), Some(200), true),
            (Expired, Some(90), Some(200), true),
            (Pending, Some(200), Some(200), false),
            (Failed, Some(200), Some(150), false),
            (Expired, Some(50), Some(90), false),
            (Cancelled, Some(90), Some(200), false),
            (Archived, Some(90), Some(200), false),
            // Nothing tells which is newer: what is dead has nothing to lose.
            (Pending, None, Some(200), false),
            (Pending, Some(150), None, false),
            (Pending, None, None, false),
            (Pending, Some(90), None, true),
            (Failed, None, Some(200), true),
            (Failed, None, None, true),
            (Failed, None, Some(90), false),
        ] {
            let is_so = known(state, known_until).is_renewed_by(&told("new", told_until), at(NOW));
            assert_eq!(is_so, is_renewed, "{state} {known_until:?} {told_until:?}");
            let same = known(state, known_until).is_renewed_by(&told("old", told_until), at(NOW));
            assert!(
                !same,
                "the very URL: {state} {known_until:?} {told_until:?}"
            );
        }
        for (class, is_renewed) in [(Class::Denied, true), (Class::Unreachable, false)] {
            let dying = UnarchivedJob {
                class: Some(class),
                ..known(Pending, None)
            };
            let is_so = dying.is_renewed_by(&told("new", None), at(NOW));
            assert_eq!(is_so, is_renewed, "{class}");
        }
    }

    /// Of an erased URL nobody can tell whether it is the one that comes again.
    #[test]
    fn an_erased_url_is_renewed_only_by_a_later_expiry() {
        let erased = Origin::Unusable(Class::Expired, "it was erased".to_owned());
        let stripped = Origin::Url(SignedUrl::new("https://h/v.mp4"));
        for origin in [erased, stripped] {
            let lost = |deadline| UnarchivedJob {
                origin: Some(origin.clone()),
                ..known(State::Failed, deadline)
            };
            assert!(!lost(None).is_renewed_by(&told("old", None), at(100)));
            assert!(!lost(Some(150)).is_renewed_by(&told("old", Some(150)), at(100)));
            assert!(lost(Some(90)).is_renewed_by(&told("new", Some(200)), at(100)));
            let mut documented = told("old", Some(200));
            documented.deadline.from = DeadlineFrom::Documented;
            assert!(!lost(Some(90)).is_renewed_by(&documented, at(100)));
        }
    }

    #[test]
    fn what_never_had_a_url_is_renewed_by_any() {
        let unusable = Origin::Unusable(Class::Invalid, "`ftp:` is no http(s) URL".to_owned());
        let lost = UnarchivedJob {
            origin: Some(unusable),
            ..known(State::Failed, None)
        };
        assert!(lost.is_renewed_by(&told("new", Some(200)), at(100)));
        let mut no_url = told("new", None);
        no_url.origin = Origin::Inline("x".to_owned());
        assert!(!lost.is_renewed_by(&no_url, at(100)));
    }
}
