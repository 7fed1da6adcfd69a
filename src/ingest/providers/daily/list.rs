//! Daily's lists: recordings and transcripts, newest first, with ids as cursors.

use jiff::Timestamp;

use crate::error::Result;
use crate::ingest::providers::api::{api_key, get};
use crate::ingest::providers::artifact_list::File;
use crate::ingest::providers::daily::event::{BASE, ask as ask_for, ask_recording, video_file};
use crate::ingest::providers::draft::EventContent;
use crate::ingest::providers::fields::Fields;
use crate::ingest::providers::list::page::ListPage;
use crate::ingest::providers::list::page::{
    Ask, Item, PAGE_ITEMS, after, keep, no_list, page, query,
};
use crate::model::api::{ApiRequest, Credentials};
use crate::model::{Format, Kind, Provider, Recording};

/// The request for a page.
pub(in crate::ingest::providers) fn request(
    ask: Ask<'_>,
    credentials: &Credentials,
) -> Result<ApiRequest> {
    let path = match ask.list {
        "recordings" => "/recordings",
        "transcripts" => "/transcript",
        other => return Err(no_list(Provider::Daily, other)),
    };
    let path = query(
        path,
        &[
            ("limit", Some(PAGE_ITEMS.to_string())),
            ("starting_after", ask.cursor.map(str::to_owned)),
        ],
    );
    let bearer = format!("Bearer {}", api_key(Provider::Daily, credentials)?);
    let headers = vec![("authorization", bearer.into())];
    get(Provider::Daily, credentials, Some(BASE), &path, headers)
}

/// What a page holds. The last one is empty: a server may give fewer than were asked for.
pub(in crate::ingest::providers) fn answer(ask: Ask<'_>, answer: Fields) -> Result<ListPage> {
    let item = match ask.list {
        "recordings" => recording,
        "transcripts" => transcript,
        other => return Err(no_list(Provider::Daily, other)),
    };
    let items: Vec<_> = answer.list("data").filter_map(item).collect();
    let next = items.last().map(|item| item.id.clone());
    // The total shrinks when recordings are deleted, which id cursors don't mind.
    Ok(ListPage {
        next,
        ..page(Provider::Daily, ask, items)
    })
}

/// The session is left out as the event leaves it out: the folder has to be the same.
fn recording(item: Fields) -> Option<Item> {
    let id = item.text("id")?;
    let began = item.time("start_ts");
    let is_finished = item.text("status").as_deref() == Some("finished");
    let says = is_finished.then(|| {
        let file = video_file(Format::Mp4);
        ask_recording("daily-recording", Some(id.clone()), file)
    });
    let ended = after(began, item.number("duration"));
    Some(Item {
        began,
        ended,
        recording: Recording {
            recording_id: Some(id.clone()),
            room_name: item.text("room_name"),
            started_at: began,
            ended_at: ended,
            ..Recording::default()
        },
        says,
        is_certain: true,
        kept: keep(
            item,
            &[
                "id",
                "room_name",
                "start_ts",
                "status",
                "duration",
                "max_participants",
                "mtgSessionId",
                "s3key",
                "s3Key",
                "tracks",
            ],
        ),
        id,
    })
}

fn transcript(item: Fields) -> Option<Item> {
    let id = item.first_text(&["transcriptId", "id"])?;
    let status = item.text("status").unwrap_or_default();
    let is_finished = ["t_finished", "t_completed"].contains(&status.as_str())
        && item.flag("isVttAvailable") != Some(false);
    let says = is_finished.then(|| -> EventContent {
        let file = File::new("transcript.vtt", Kind::Transcript, Format::Vtt);
        ask_for("daily-transcript", Some(id.clone()), file)
    });
    let began = started(item);
    Some(Item {
        began,
        ended: after(began, item.number("duration")),
        recording: Recording {
            session_id: item.first_text(&["mtgSessionId", "mtg_session_id"]),
            room_id: item.first_text(&["roomId", "room_id"]),
            room_name: item.first_text(&["roomName", "room_name"]),
            ..Recording::default()
        },
        says,
        is_certain: true,
        kept: keep(
            item,
            &[
                "transcriptId",
                "roomId",
                "mtgSessionId",
                "status",
                "duration",
                "isVttAvailable",
            ],
        ),
        id,
    })
}

/// No date of a transcript is documented, but its storage key is, `domain/room/<start in ms>.vtt`: where the list
/// tells that, it dates it.
fn started(item: Fields) -> Option<Timestamp> {
    let dated = item.first_time(&["start_ts", "startTs", "created_at", "createdAt"]);
    dated.or_else(|| {
        let s3 = ["outParams", "out_params"].map(|name| item.object(name).object("s3"));
        let key = s3.into_iter().find_map(|s3| s3.text("key"))?;
        let name = key.rsplit('/').next()?;
        let millis = name.split('.').next()?.parse().ok()?;
        Timestamp::from_millisecond(millis).ok()
    })
}
