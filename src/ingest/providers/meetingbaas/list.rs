//! MeetingBaaS's lists of bots, one for each of its versions.
//!
//! They name no files: each bot that has ended is asked for its own.

use crate::error::Result;
use crate::ingest::providers::api::{api_key, get};
use crate::ingest::providers::artifact_list::{ArtifactList, File};
use crate::ingest::providers::draft::{EventContent, lookup, loss};
use crate::ingest::providers::fields::Fields;
use crate::ingest::providers::list::page::ListPage;
use crate::ingest::providers::list::page::{Ask, Item, PAGE_ITEMS, keep, no_list, page, query};
use crate::ingest::providers::meetingbaas::api::BASE;
use crate::ingest::providers::meetingbaas::event::OWNER;
use crate::model::api::{ApiRequest, Credentials};
use crate::model::{Format, Kind, Provider, Recording};

/// The request for a page.
pub(in crate::ingest::providers) fn request(
    ask: Ask<'_>,
    credentials: &Credentials,
) -> Result<ApiRequest> {
    let path = match ask.list {
        "v1-bots" => "/bots/bots_with_metadata",
        "v2-bots" => "/v2/bots",
        other => return Err(no_list(Provider::MeetingBaas, other)),
    };
    let path = query(
        path,
        &[
            ("limit", Some(PAGE_ITEMS.to_string())),
            // Not by when it was created: a bot may be scheduled weeks ahead.
            ("ended_after", Some(ask.window.since.to_string())),
            ("created_before", Some(ask.window.until.to_string())),
            ("cursor", ask.cursor.map(str::to_owned)),
        ],
    );
    let key = api_key(Provider::MeetingBaas, credentials)?;
    let headers = vec![("x-meeting-baas-api-key", key.into())];
    get(
        Provider::MeetingBaas,
        credentials,
        Some(BASE),
        &path,
        headers,
    )
}

/// What a page holds.
pub(in crate::ingest::providers) fn answer(ask: Ask<'_>, answer: Fields) -> Result<ListPage> {
    let (items, cursors): (Vec<_>, _) = match ask.list {
        "v1-bots" => {
            let names = ["bots", "recent_bots"];
            let bots = names.into_iter().flat_map(|name| answer.list(name));
            (bots.filter_map(v1).collect(), ["next_cursor", "nextCursor"])
        }
        "v2-bots" => {
            let bots = answer.list("data");
            (bots.filter_map(v2).collect(), ["next_cursor", "cursor"])
        }
        other => return Err(no_list(Provider::MeetingBaas, other)),
    };
    let next = answer.first_text(&cursors).filter(|_| !items.is_empty());
    Ok(ListPage {
        next,
        ..page(Provider::MeetingBaas, ask, items)
    })
}

fn v1(item: Fields) -> Option<Item> {
    let id = item.first_text(&["uuid", "bot_id"])?;
    let ended = item.time("ended_at");
    let says = ended.map(|_| match item.value("errors") {
        Some(errors) if !errors.is_null() && item.text("errors").is_some() => {
            failed(item.text("errors"), None)
        }
        _ => ask_for("meetingbaas-v1-all", &id),
    });
    Some(bot(item, id, says))
}

fn v2(item: Fields) -> Option<Item> {
    let id = item.first_text(&["bot_id", "uuid", "id"])?;
    let is_deleted =
        item.flag("artifacts_deleted") == Some(true) || item.flag("data_deleted") == Some(true);
    let says = match item.text("status").as_deref() {
        Some("completed") if !is_deleted => Some(ask_for("meetingbaas-v2-bot", &id)),
        Some("failed") => Some(failed(item.text("error_code"), item.text("error_message"))),
        _ => None,
    };
    Some(bot(item, id, says))
}

fn ask_for(call: &str, bot: &str) -> EventContent {
    let mut shelf = ArtifactList::of_answer();
    let file = File::new("recording.mp4", Kind::Video, Format::Mp4);
    shelf.put_lookup_as(format!("lookup:{OWNER}"), lookup(call, bot), file);
    shelf.into_says(Vec::new())
}

fn failed(code: Option<String>, message: Option<String>) -> EventContent {
    EventContent::loss(loss(code.clone(), message.or(code), None, "bot"))
}

/// Only these fields may be kept: a bot can carry keys and addresses of other services.
fn bot(item: Fields, id: String, says: Option<EventContent>) -> Item {
    let ended = item.first_time(&["ended_at", "exited_at"]);
    Item {
        // A page of bots that were created long ago may still hold what has ended just now.
        began: ended.or_else(|| item.time("created_at")),
        ended,
        recording: Recording {
            bot_id: Some(id.clone()),
            started_at: item.time("joined_at"),
            ended_at: item.time("exited_at"),
            ..Recording::default()
        },
        says,
        is_certain: true,
        kept: keep(
            item,
            &[
                "uuid",
                "bot_id",
                "created_at",
                "ended_at",
                "joined_at",
                "exited_at",
                "duration",
                "duration_seconds",
                "status",
                "error_code",
            ],
        ),
        id,
    }
}
