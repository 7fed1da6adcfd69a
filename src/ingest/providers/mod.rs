//! What each provider sends and answers.

use jiff::Timestamp;

use super::Delivery;
use crate::error::Result;
use crate::model::api::{ApiRequest, ApiResponse, Credentials};
use crate::model::{Artifact, Event, Lookup, Provider, Recording};

pub(super) fn parse(_provider: Provider, _delivery: &Delivery<'_>) -> Result<Event> {
    todo!()
}

pub(super) fn recognise(_body: &[u8]) -> Option<Provider> {
    todo!()
}

pub(super) fn lookup_request(
    _provider: Provider,
    _lookup: &Lookup,
    _credentials: &Credentials,
    _now: Timestamp,
) -> Result<ApiRequest> {
    todo!()
}

pub(super) fn lookup_answer(
    _provider: Provider,
    _lookup: &Lookup,
    _response: &ApiResponse,
    _recording: &Recording,
    _now: Timestamp,
) -> Result<Vec<Artifact>> {
    todo!()
}
