//! MeetingBaaS's API: what a bot has left, with fresh URLs.
//!
//! The answers hold secrets of other kinds too (webhook URLs, speech-to-text keys): nothing of them is kept
//! but the files.

use jiff::Timestamp;
use secrecy::SecretString;

use crate::error::Result;
use crate::ingest::providers::api::{api_key, get, segment, unknown_call};
use crate::ingest::providers::artifact_list::ArtifactList;
use crate::ingest::providers::fields::Fields;
use crate::ingest::providers::meetingbaas::event;
use crate::ingest::providers::{draft, transcript};
use crate::model::api::{ApiRequest, Credentials};
use crate::model::{Artifact, Lookup, Provider};

pub(in crate::ingest::providers) const BASE: &str = "https://api.meetingbaas.com";

/// The request that answers `lookup`.
pub(in crate::ingest::providers) fn request(
    lookup: &Lookup,
    credentials: &Credentials,
) -> Result<ApiRequest> {
    let bot = segment(Provider::MeetingBaas, &lookup.id)?;
    let path = match lookup.call.as_str() {
        "meetingbaas-v1-bot" => {
            format!("/bots/meeting_data?bot_id={bot}&include_transcripts=false")
        }
        "meetingbaas-v1-transcript" | "meetingbaas-v1-all" => {
            format!("/bots/meeting_data?bot_id={bot}&include_transcripts=true")
        }
        "meetingbaas-v2-bot" => format!("/v2/bots/{bot}"),
        _ => return Err(unknown_call(Provider::MeetingBaas, lookup)),
    };
    let key = SecretString::from(api_key(Provider::MeetingBaas, credentials)?);
    let headers = vec![("x-meeting-baas-api-key", key)];
    get(
        Provider::MeetingBaas,
        credentials,
        Some(BASE),
        &path,
        headers,
    )
}

/// What `answer` names.
pub(in crate::ingest::providers) fn answer(
    lookup: &Lookup,
    answer: Fields,
    now: Timestamp,
) -> Result<Vec<Artifact>> {
    let mut shelf = ArtifactList::of_answer();
    let again = Some(lookup.clone());
    match lookup.call.as_str() {
        "meetingbaas-v1-bot" => event::v1_files(answer, again, now, &mut shelf),
        // Of a bot whose event we have missed: what that would have brought.
        "meetingbaas-v1-all" => {
            let bot = draft::lookup("meetingbaas-v1-bot", lookup.id.clone());
            event::v1_files(answer, Some(bot), now, &mut shelf);
            let words = answer.object("bot_data").value("transcripts");
            transcript::put_only(event::OWNER, words, &mut shelf);
        }
        "meetingbaas-v1-transcript" => {
            transcript::put(answer.object("bot_data").value("transcripts"), &mut shelf);
        }
        "meetingbaas-v2-bot" => event::v2_files(answer.object("data"), again, now, &mut shelf),
        _ => return Err(unknown_call(Provider::MeetingBaas, lookup)),
    }
    Ok(shelf.into_artifacts())
}
