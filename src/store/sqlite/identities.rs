//! Once, after an upgrade: identities of files as this version makes them.
//!
//! Earlier versions told the files of user-defined providers apart by their paths alone, and wrote secrets of paths into
//! identities. A file that is told of again after the upgrade must be the same job. Its URL is in the job's origin or,
//! once that is erased, in the event that the job came from.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection};

use super::{error, rows, sql};
use crate::error::Result;
use crate::model::{Origin, Provider};
use crate::signed_url::{SignedUrl, earlier_path_identity, file_identity, path_identity};
use crate::store::stored;

/// What this is called in the table of what is to be done.
const NAME: &str = "identities";

/// Jobs that are read together.
const PAGE: i64 = 500;

/// Brings the identities up to date if that was not done yet; all or nothing.
pub(super) async fn renew(conn: &mut SqliteConnection) -> Result<()> {
    let due = || sqlx::query(sql::UPKEEP_DUE).bind(NAME);
    if rows::optional(conn, due()).await?.is_none() {
        return Ok(());
    }
    let failed = |cause| error::from("renew the identities of files", cause);
    let begun = conn.begin_with("BEGIN IMMEDIATE").await;
    let mut transaction = begun.map_err(failed)?;
    // Another process may have been faster.
    if rows::optional(&mut transaction, due()).await?.is_none() {
        return Ok(());
    }
    let mut after = String::new();
    loop {
        let page = sqlx::query(sql::FILES_BY_URL).bind(&after).bind(PAGE);
        let page = rows::all(&mut transaction, page).await?;
        let Some(last) = page.last() else { break };
        after = rows::get(last, "id")?;
        for row in &page {
            let file = KnownFile {
                id: rows::get(row, "id")?,
                recording_id: rows::get(row, "recording_id")?,
                identity: rows::get(row, "identity")?,
                is_custom: is_custom(rows::get(row, "provider")?),
                origin: rows::get(row, "origin")?,
            };
            file.renew(&mut transaction).await?;
        }
    }
    let done = sqlx::query(sql::UPKEEP_DONE).bind(NAME);
    rows::execute(&mut transaction, done).await?;
    transaction.commit().await.map_err(failed)
}

fn is_custom(provider: &str) -> bool {
    matches!(Provider::named(provider), Some(Provider::Custom(_)))
}

/// A job whose identity is made of a URL.
struct KnownFile {
    id: String,
    recording_id: String,
    identity: String,
    is_custom: bool,
    origin: Option<String>,
}

impl KnownFile {
    async fn renew(&self, conn: &mut SqliteConnection) -> Result<()> {
        let Some(identity) = self.fresh_identity(conn).await? else {
            return Ok(());
        };
        let renew = sqlx::query(sql::RENEW_IDENTITY)
            .bind(&self.id)
            .bind(&self.recording_id)
            .bind(identity);
        rows::execute(conn, renew).await?;
        Ok(())
    }

    /// The identity that the file has now, if it is another one and certain.
    async fn fresh_identity(&self, conn: &mut SqliteConnection) -> Result<Option<String>> {
        let mut urls = self.url().into_iter().collect::<Vec<_>>();
        if urls.is_empty() && self.is_custom {
            let event = sqlx::query(sql::EVENT_OF_JOB)
                .bind(&self.recording_id)
                .bind(&self.id);
            if let Some(row) = rows::optional(conn, event).await? {
                urls = urls_in(&rows::raw(&row)?);
            }
        }
        Ok(renewed(&self.identity, self.is_custom, &urls))
    }

    fn url(&self) -> Option<SignedUrl> {
        match stored::to_origin(self.origin.as_deref()?) {
            Ok(Origin::Url(url)) => Some(url),
            _ => None,
        }
    }
}

/// What `identity` has become, by the URLs that the file may have; `None` where it stays or nothing is certain.
fn renewed(identity: &str, is_custom: bool, urls: &[SignedUrl]) -> Option<String> {
    let rest = identity.strip_prefix("url:")?;
    let (kind, path) = rest.split_once(':')?;
    let of = |url: &SignedUrl| match is_custom {
        true => file_identity(kind, url),
        false => path_identity(kind, url),
    };
    let its_own = urls
        .iter()
        .filter(|url| is_twin_of(identity, &earlier_path_identity(kind, url)));
    let candidates: BTreeSet<String> = its_own.map(of).collect();
    let fresh = match candidates.len() {
        1 => candidates.into_iter().next()?,
        // Several files of one path came together, and which of them this is nobody knows any more.
        2.. => return None,
        // By the path alone, at a host that does not matter to it.
        0 => path_identity(kind, &SignedUrl::new(format!("https://host{path}"))),
    };
    (fresh != identity).then_some(fresh)
}

/// Whether `identity` is `first`, or a further one of the same event (`first-2`).
fn is_twin_of(identity: &str, first: &str) -> bool {
    let rest = identity.strip_prefix(first);
    let number = |rest: &str| {
        let digits = rest.strip_prefix('-').unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    rest.is_some_and(|rest| rest.is_empty() || number(rest))
}

/// All URLs in an event.
fn urls_in(raw: &[u8]) -> Vec<SignedUrl> {
    fn collect(value: &Value, urls: &mut Vec<SignedUrl>) {
        match value {
            Value::String(text) => urls.extend(SignedUrl::usable(text)),
            Value::Array(items) => items.iter().for_each(|item| collect(item, urls)),
            Value::Object(fields) => fields.values().for_each(|field| collect(field, urls)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut urls = Vec::new();
    if let Ok(value) = serde_json::from_slice(raw) {
        collect(&value, &mut urls);
    }
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(all: &[&str]) -> Vec<SignedUrl> {
        all.iter().map(|url| SignedUrl::new(*url)).collect()
    }

    // R8, S11
    #[test]
    fn an_identity_is_renewed_where_it_is_certain_what_it_was_made_of() {
        let one = urls(&["https://h/dl?id=1"]);
        let of_one = file_identity("video", &one[0]);
        assert_eq!(renewed("url:video:/dl", true, &one), Some(of_one.clone()));
        assert_eq!(renewed(&of_one, true, &one), None, "it is new already");
        assert_eq!(renewed("url:video:/dl", false, &one), None);
        assert_eq!(renewed("url:video:/other", true, &one), None);
        let two = urls(&["https://h/dl?id=1", "https://h/dl?id=2", "https://h/x"]);
        assert_eq!(renewed("url:video:/dl", true, &two), None);
        let token = "Kx3f9aQ2".repeat(6);
        let path = format!("url:video:/p/{token}/n/a/b/c/o/f.mp4");
        let renewed = renewed(&path, false, &[]).unwrap();
        assert_eq!(renewed, "url:video:/p/[removed]/n/a/b/c/o/f.mp4");
    }
}
