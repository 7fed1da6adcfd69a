//! Dyte's and RealtimeKit's lists: recordings with their URLs, and sessions, which may have left a chat, a transcript
//! and a summary.
//!
//! Pages have numbers, so what is deleted meanwhile moves the rest up: the total tells that.

use jiff::Timestamp;

use crate::error::Result;
use crate::ingest::providers::api::get;
use crate::ingest::providers::artifact_list::{ArtifactList, File};
use crate::ingest::providers::draft::{EventContent, lookup, loss};
use crate::ingest::providers::dyte::api::{authorization, recording_of};
use crate::ingest::providers::dyte::event::{DYTE, Profile, REALTIMEKIT};
use crate::ingest::providers::fields::Fields;
use crate::ingest::providers::list::page::ListPage;
use crate::ingest::providers::list::page::{Ask, Item, keep, no_list, page, query};
use crate::model::api::{ApiRequest, Credentials};
use crate::model::{Format, Kind, Provider, Recording};

/// Things on a page: no limit is documented, so no record is tried.
const PAGE_ITEMS: usize = 50;

fn profile(provider: Provider) -> Profile {
    match provider {
        Provider::RealtimeKit => REALTIMEKIT,
        _ => DYTE,
    }
}

/// The request for a page.
pub(in crate::ingest::providers) fn request(
    provider: Provider,
    ask: Ask<'_>,
    credentials: &Credentials,
) -> Result<ApiRequest> {
    let path = match ask.list {
        "recordings" => "/recordings",
        "sessions" => "/sessions",
        other => return Err(no_list(provider, other)),
    };
    let path = query(
        path,
        &[
            ("page_no", Some(number(ask).to_string())),
            ("per_page", Some(PAGE_ITEMS.to_string())),
            ("start_time", Some(ask.window.earliest_start().to_string())),
            ("end_time", Some(ask.window.until.to_string())),
        ],
    );
    let authorization = authorization(provider, credentials)?;
    let headers = vec![("authorization", authorization.into())];
    get(
        provider,
        credentials,
        profile(provider).base,
        &path,
        headers,
    )
}

fn number(ask: Ask<'_>) -> u64 {
    ask.cursor
        .and_then(|cursor| cursor.parse().ok())
        .unwrap_or(1)
}

/// What a page holds.
pub(in crate::ingest::providers) fn answer(
    provider: Provider,
    ask: Ask<'_>,
    answer: Fields,
    now: Timestamp,
) -> Result<ListPage> {
    let items: Vec<_> = match ask.list {
        "recordings" => answer
            .list("data")
            .filter_map(|item| recording(provider, item, now))
            .collect(),
        // Nested in one SDK's types, flat in the pattern of the other lists.
        "sessions" => answer
            .list("data")
            .chain(answer.object("data").list("sessions"))
            .filter_map(|item| session(profile(provider), item))
            .collect(),
        other => return Err(no_list(provider, other)),
    };
    let paging = answer.object("paging");
    let (total, end) = (paging.number("total_count"), paging.number("end_offset"));
    let is_last = items.is_empty() || total.zip(end).is_some_and(|(total, end)| end >= total);
    Ok(ListPage {
        next: (!is_last).then(|| (number(ask) + 1).to_string()),
        total: paging.size_bytes("total_count"),
        ..page(provider, ask, items)
    })
}

fn recording(provider: Provider, item: Fields, now: Timestamp) -> Option<Item> {
    let id = item.text("id")?;
    let meeting = item.object("meeting");
    let mut shelf = ArtifactList::of_answer();
    let says = match item.text("status").as_deref() {
        Some("UPLOADED") => {
            recording_of(item, &lookup("dyte-recording", id.clone()), now, &mut shelf);
            if shelf.is_empty() {
                // Where it is only the recording itself tells, if anything does.
                let file = File::new("recording.mp4", Kind::Video, Format::Mp4);
                shelf.put_lookup(lookup("dyte-recording", id.clone()), file);
            }
            Some(shelf.into_says(Vec::new()))
        }
        Some("ERRORED") => {
            let message = item
                .first_text(&["error", "error_message", "reason"])
                .unwrap_or_else(|| format!("{provider} lists the recording as ERRORED"));
            let code = Some("ERRORED".to_owned());
            let key = format!("recording:{id}");
            Some(EventContent::loss(loss(
                code,
                Some(message),
                Some(Kind::Video),
                key,
            )))
        }
        _ => None,
    };
    let began = item.first_time(&["started_time", "invoked_time"]);
    let ended = item.time("stopped_time");
    Some(Item {
        began,
        ended,
        recording: Recording {
            recording_id: Some(id.clone()),
            bot_id: None,
            session_id: item.text("session_id"),
            room_id: meeting.text("id").or_else(|| item.text("meeting_id")),
            room_name: meeting.text("title"),
            started_at: began,
            ended_at: ended,
        },
        says,
        is_certain: true,
        kept: keep(
            item,
            &[
                "id",
                "status",
                "type",
                "session_id",
                "file_size",
                "output_file_name",
                "invoked_time",
                "started_time",
                "stopped_time",
            ],
        ),
        id,
    })
}

fn session(profile: Profile, item: Fields) -> Option<Item> {
    let id = item.text("id")?;
    let began = item.first_time(&["started_at", "created_at"]);
    let ended = item.time("ended_at");
    let says = ended.map(|_| {
        let mut shelf = ArtifactList::of_answer();
        for (call, stem, kind, format) in [
            ("dyte-chat", "chat", Kind::Chat, profile.chat),
            (
                "dyte-transcript",
                "transcript",
                Kind::Transcript,
                Format::Csv,
            ),
            ("dyte-summary", "summary", Kind::Summary, Format::Txt),
        ] {
            let file = File::new(format!("{stem}.{}", format.extension()), kind, format);
            shelf.put_lookup(lookup(call, id.clone()), file);
        }
        shelf.into_says(Vec::new())
    });
    Some(Item {
        began,
        ended,
        recording: Recording {
            session_id: Some(id.clone()),
            room_id: item.first_text(&["associated_id", "meeting_id"]),
            room_name: item.first_text(&["meeting_display_name", "title"]),
            started_at: item.time("started_at"),
            ended_at: ended,
            ..Recording::default()
        },
        says,
        is_certain: false,
        kept: keep(
            item,
            &["id", "associated_id", "status", "started_at", "ended_at"],
        ),
        id,
    })
}
