//! 100ms's list of recordings, each with its assets, or to be asked for them.
//!
//! Its order is not documented, and it takes no times: the walk goes on until a page is plainly too old.

use jiff::Timestamp;
use serde_json::Value;

use crate::error::Result;
use crate::ingest::providers::api::get;
use crate::ingest::providers::artifact_list::{ArtifactList, File};
use crate::ingest::providers::draft::lookup;
use crate::ingest::providers::fields::Fields;
use crate::ingest::providers::hms::api::{BASE, management_token, put_asset};
use crate::ingest::providers::list::page::ListPage;
use crate::ingest::providers::list::page::{Ask, Item, PAGE_ITEMS, keep, no_list, page, query};
use crate::model::api::{ApiRequest, Credentials};
use crate::model::{Format, Kind, Provider, Recording};

/// The request for a page.
pub(in crate::ingest::providers) fn request(
    ask: Ask<'_>,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<ApiRequest> {
    if ask.list != "recordings" {
        return Err(no_list(Provider::Hms, ask.list));
    }
    let path = query(
        "/recordings",
        &[
            ("limit", Some(PAGE_ITEMS.to_string())),
            ("start", ask.cursor.map(str::to_owned)),
        ],
    );
    let page = lookup("list", ask.cursor.unwrap_or_default());
    let token = management_token(&page, credentials, now)?;
    let headers = vec![("authorization", format!("Bearer {token}").into())];
    get(Provider::Hms, credentials, Some(BASE), &path, headers)
}

/// What a page holds.
pub(in crate::ingest::providers) fn answer(ask: Ask<'_>, answer: Fields) -> Result<ListPage> {
    let items: Vec<_> = answer.list("data").filter_map(recording).collect();
    let next = answer.text("last").filter(|_| !items.is_empty());
    Ok(ListPage {
        next,
        ..page(Provider::Hms, ask, items)
    })
}

fn recording(item: Fields) -> Option<Item> {
    let id = item.text("id")?;
    let began = item.first_time(&["session_started_at", "started_at", "created_at"]);
    let mut shelf = ArtifactList::of_answer();
    for asset in item.list("recording_assets") {
        put_asset(asset, &mut shelf);
    }
    if !tells_assets(item) && is_finished(item) {
        let file = File::new("recording.mp4", Kind::Video, Format::Mp4);
        shelf.put_lookup(lookup("hms-recording", id.clone()), file);
    }
    // The event of an SFU recording names no recording: there the session is what joins.
    let is_legacy = item
        .list("recording_assets")
        .any(|asset| asset.text("type").as_deref() == Some("room-composite-legacy"));
    let session_id = item.text("session_id");
    let has_session = session_id.is_some();
    Some(Item {
        began,
        ended: item.first_time(&["stopped_at", "session_stopped_at"]),
        recording: Recording {
            recording_id: Some(id.clone()).filter(|_| !(is_legacy && has_session)),
            bot_id: None,
            session_id,
            room_id: item.text("room_id"),
            room_name: item.text("room_name"),
            started_at: item.first_time(&["session_started_at", "started_at"]),
            ended_at: item.first_time(&["stopped_at", "session_stopped_at"]),
        },
        says: (!shelf.is_empty()).then(|| shelf.into_says(Vec::new())),
        is_certain: true,
        kept: keep(
            item,
            &[
                "id",
                "session_id",
                "room_id",
                "room_name",
                "status",
                "created_at",
                "started_at",
                "stopped_at",
                "recording_assets",
            ],
        ),
        id,
    })
}

/// Whether the list tells the recording's assets, be it that there are none; else they have to be asked for.
fn tells_assets(item: Fields) -> bool {
    item.value("recording_assets").is_some_and(Value::is_array)
}

fn is_finished(item: Fields) -> bool {
    match item.text("status").as_deref() {
        Some(status) => status == "completed",
        None => item
            .first_time(&["stopped_at", "session_stopped_at"])
            .is_some(),
    }
}
