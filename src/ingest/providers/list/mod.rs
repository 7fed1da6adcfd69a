//! The providers' lists: which adapter asks for a page and reads it.

use jiff::Timestamp;

use super::api;
use super::fields::Fields;
use crate::error::Result;
use crate::model::Provider;
use crate::model::api::{ApiRequest, ApiResponse, Credentials};
use page::{Ask, ListPage, Window, no_list};

pub(in crate::ingest) mod page;

pub(in crate::ingest) fn lists(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::Hms => &["recordings"],
        Provider::MeetingBaas => &["v2-bots", "v1-bots"],
        Provider::Daily => &["recordings", "transcripts"],
        Provider::Dyte | Provider::RealtimeKit => &["recordings", "sessions"],
        Provider::Adhoc | Provider::Custom(_) => &[],
    }
}

/// Lists that an operator's walk reads besides: what they tell costs many pages.
pub(in crate::ingest) fn thorough_lists(provider: Provider) -> &'static [&'static str] {
    match provider {
        Provider::Hms => &[crate::ingest::providers::hms::deliveries::NAME],
        _ => &[],
    }
}

pub(in crate::ingest) fn request(
    provider: Provider,
    list: &str,
    cursor: Option<&str>,
    window: &Window,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<ApiRequest> {
    let ask = Ask {
        list,
        cursor,
        window,
    };
    match provider {
        Provider::Hms if list == crate::ingest::providers::hms::deliveries::NAME => {
            crate::ingest::providers::hms::deliveries::request(ask, credentials, now)
        }
        Provider::Hms => crate::ingest::providers::hms::list::request(ask, credentials, now),
        Provider::MeetingBaas => {
            crate::ingest::providers::meetingbaas::list::request(ask, credentials)
        }
        Provider::Daily => crate::ingest::providers::daily::list::request(ask, credentials),
        Provider::Dyte | Provider::RealtimeKit => {
            crate::ingest::providers::dyte::list::request(provider, ask, credentials)
        }
        Provider::Adhoc | Provider::Custom(_) => Err(no_list(provider, list)),
    }
}

pub(in crate::ingest) fn answer(
    provider: Provider,
    list: &str,
    cursor: Option<&str>,
    window: &Window,
    response: &ApiResponse,
    now: Timestamp,
) -> Result<ListPage> {
    let answer = api::read_answer(provider, response)?;
    let answer = Fields::of(&answer);
    let ask = Ask {
        list,
        cursor,
        window,
    };
    let mut page = match provider {
        Provider::Hms if list == crate::ingest::providers::hms::deliveries::NAME => {
            crate::ingest::providers::hms::deliveries::answer(ask, answer, now)
        }
        Provider::Hms => crate::ingest::providers::hms::list::answer(ask, answer),
        Provider::MeetingBaas => crate::ingest::providers::meetingbaas::list::answer(ask, answer),
        Provider::Daily => crate::ingest::providers::daily::list::answer(ask, answer),
        Provider::Dyte | Provider::RealtimeKit => {
            crate::ingest::providers::dyte::list::answer(provider, ask, answer, now)
        }
        Provider::Adhoc | Provider::Custom(_) => Err(no_list(provider, list)),
    }?;
    // A cursor that leads to its own page would lead there for ever.
    page.next = page.next.filter(|next| Some(next.as_str()) != cursor);
    Ok(page)
}
