//! The files that an event of a user-defined provider names.

use jiff::Timestamp;
use serde_json::Value;

use super::definition::{ArtifactTable, Choice, ProviderDefinition, is_one_of};
use super::path::{At, Path};
use super::span::Span;
use crate::error::Class;
use crate::ingest::providers::artifact_list::{ArtifactList, File, Life, extension_of};
use crate::ingest::providers::draft::lookup;
use crate::ingest::providers::fields::{self, Location};
use crate::model::key::safe;
use crate::model::{Deadline, DeadlineFrom, Format, Kind, Lookup, Origin};
use crate::signed_url::{SignedUrl, UrlHeader, file_identity, url_deadline};

/// Each file of an event keeps its own copy: a longer token, times a thousand files, would fill the memory.
const HEADER_VALUE_MAX_BYTES: usize = 8 * 1024;

/// Puts every file that `event` names on the shelf. `at` is the event's time.
pub(super) fn put_all(
    definition: &ProviderDefinition,
    event_type: Option<&str>,
    event: &Value,
    at: Timestamp,
    shelf: &mut ArtifactList,
) {
    for table in &definition.tables.artifacts {
        if !is_one_of(&table.types, event_type) || !holds(table.when.as_ref(), event) {
            continue;
        }
        match &table.each {
            None => put(table, At::event(event), at, shelf),
            Some(each) => {
                for item in each.all(At::event(event)) {
                    put(table, At { event, item }, at, shelf);
                }
            }
        }
    }
}

/// Whether something stands at `when`.
pub(super) fn holds(when: Option<&Path>, event: &Value) -> bool {
    when.is_none_or(|when| when.first(At::event(event)).is_some())
}

fn put(table: &ArtifactTable, place: At<'_>, at: Timestamp, shelf: &mut ArtifactList) {
    let location = fields::location(table.url.first(place), table.url.text());
    let Some(kind) = kind(&table.kind, place) else {
        return;
    };
    let (extension, format) = match table.format.as_ref().and_then(|f| self::format(f, place)) {
        Some(format) => (format.extension().to_owned(), format),
        None => extension_of(&location, Format::Bin),
    };
    let size_bytes = table.size.as_ref().and_then(|path| path.first(place));
    let name = name(table, kind, &extension, place);
    let file = File::new(name, kind, format).sized(size_bytes.and_then(fields::size_bytes));
    let url = match location {
        Location::Url(url) => url,
        Location::Unusable(_) if table.needs_lookup => {
            return put_out_of_reach(table, place, file, shelf);
        }
        other => return shelf.put(other, file, Life::default()),
    };
    let identity = table
        .id
        .as_ref()
        .and_then(|path| path.first(place))
        .and_then(fields::text);
    let url = match table.secret_path {
        true => url.with_secret_path(),
        false => url,
    };
    let identity = match identity {
        Some(id) => format!("id:{}:{id}", kind.as_str()),
        None => file_identity(kind.as_str(), &url),
    };
    let deadline = deadline(table, &url, place, at);
    match openable(table, url, place) {
        Ok(url) => shelf.push(identity, Origin::Url(url), deadline, file),
        Err(url) => {
            let shown = url.to_string();
            // A lookup's id is shown to people: a place with a query, which may be a secret, is not tried.
            let is_place = table.needs_lookup && shown == url.expose();
            let call = if is_place {
                Lookup::PLACE
            } else {
                Lookup::NO_CALL
            };
            shelf.push(
                identity,
                Origin::Lookup(lookup(call, shown)),
                Deadline::NONE,
                file,
            );
        }
    }
}

/// A file in a storage that no URL leads to (`s3://`, a path on the provider's machine).
fn put_out_of_reach(table: &ArtifactTable, place: At<'_>, file: File, shelf: &mut ArtifactList) {
    let shown = table.url.first(place).and_then(fields::text);
    let shown = shown.unwrap_or_else(|| "an unnamed place".to_owned());
    let identity = format!("place:{}:{shown}", file.kind.as_str());
    let why = format!(
        "fetch {shown}: it lies in a storage that no URL leads to; copy it from there, or let the provider write to \
         where its events name https URLs"
    );
    let origin = Origin::Unusable(Class::Denied, why);
    shelf.push(identity, origin, Deadline::NONE, file);
}

/// The URL with what it needs to be opened; `Err` when the event does not have that.
fn openable(table: &ArtifactTable, url: SignedUrl, place: At<'_>) -> Result<SignedUrl, SignedUrl> {
    if table.needs_lookup {
        return Err(url);
    }
    let Some(header) = &table.header else {
        return Ok(url);
    };
    // A token is to be sent as it is, but nothing that could begin a header of its own.
    let as_it_is = |value: &Value| {
        let text = value.as_str()?;
        let is_plain = (1..=HEADER_VALUE_MAX_BYTES).contains(&text.len())
            && text.chars().all(|c| (' '..='~').contains(&c));
        is_plain.then(|| text.to_owned())
    };
    match header.value.fill(place, |_| None, as_it_is) {
        Some(value) => {
            Ok(url.with_header(UrlHeader::new(&header.name, value, header.hosts.clone())))
        }
        None => Err(url),
    }
}

fn kind(choice: &Choice<Kind>, place: At<'_>) -> Option<Kind> {
    choose(choice, place, |text| {
        Kind::parse(&text.to_ascii_lowercase())
    })
}

fn format(choice: &Choice<Format>, place: At<'_>) -> Option<Format> {
    choose(choice, place, Format::from_extension)
}

fn choose<T: Copy + serde::de::DeserializeOwned>(
    choice: &Choice<T>,
    place: At<'_>,
    read: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    match choice {
        Choice::Fixed(value) => Some(*value),
        Choice::By(by) => {
            let text = by.path.first(place).and_then(fields::text);
            let mapped = text.and_then(|text| by.map.get(&text).copied().or_else(|| read(&text)));
            mapped.or(by.otherwise)
        }
    }
}

fn name(table: &ArtifactTable, kind: Kind, extension: &str, place: At<'_>) -> String {
    let word = |word: &str| match word {
        "kind" => Some(kind.as_str().to_owned()),
        "format" => Some(extension.to_owned()),
        _ => None,
    };
    let safe_text = |value: &Value| fields::text(value).map(|text| safe(&text));
    let own = table
        .name
        .as_ref()
        .and_then(|name| name.fill(place, word, safe_text));
    let name = own.unwrap_or_else(|| format!("{}.{extension}", stem(kind)));
    // The recording's own documents are not to be taken for files of it.
    let is_ours = ["manifest.json", "report.json"].contains(&name.as_str())
        || name.starts_with("event-")
        || name.starts_with('.');
    if is_ours {
        format!("file-{name}")
    } else {
        name
    }
}

fn stem(kind: Kind) -> &'static str {
    match kind {
        Kind::Video => "recording",
        Kind::Event | Kind::Other => "file",
        named => named.as_str(),
    }
}

fn deadline(table: &ArtifactTable, url: &SignedUrl, place: At<'_>, at: Timestamp) -> Deadline {
    let value = |path: &Option<Path>| path.as_ref().and_then(|path| path.first(place));
    let of = |at: Option<Timestamp>, from| at.map_or(Deadline::NONE, |at| Deadline::at(at, from));
    let field = of(
        value(&table.deadline).and_then(fields::time),
        DeadlineFrom::Field,
    );
    let token = of(value(&table.token).and_then(expiry), DeadlineFrom::Token);
    let known = field.earliest(token);
    if known.at.is_some() {
        return known.earliest(url_deadline(url.expose()));
    }
    let life = Life {
        field: None,
        documented: table.lifetime.and_then(|span| end_of(span, at)),
        is_signed: true,
    };
    life.deadline(url)
}

fn end_of(Span(life): Span, at: Timestamp) -> Option<Timestamp> {
    at.checked_add(life).ok()
}

/// The `exp` of a JWT, which is read and not believed: only its maker could check it.
fn expiry(token: &Value) -> Option<Timestamp> {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    let claims = token.as_str()?.split('.').nth(1)?;
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(claims.trim_end_matches('='))
        .ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    fields::time(claims.get("exp")?)
}
