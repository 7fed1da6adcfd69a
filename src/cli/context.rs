//! What every command gets, and the store that it finds.

use std::sync::Arc;

use super::output::Output;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::error::{Class, Error, Result};
use crate::store::JobStore;
use crate::store::sqlite::SqliteStore;

/// What every command gets.
pub struct CommandContext {
    /// The settings.
    pub config: Config,
    /// Where to say things.
    pub output: Output,
    /// What time it is.
    pub clock: SharedClock,
}

/// The store for a command that only reads or changes what is there; `None` when there is none yet.
///
/// # Errors
/// When it can't be opened.
pub(crate) async fn existing_store(context: &CommandContext) -> Result<Option<Arc<dyn JobStore>>> {
    let path = context.config.store_path();
    let is_there = path.try_exists().map_err(|error| {
        Error::new(
            Class::Internal,
            format!("open the store {}", path.display()),
        )
        .with_source(error)
    })?;
    if !is_there {
        let path = path.display();
        context
            .output
            .note(&format!("there is no store at {path} yet"));
        return Ok(None);
    }
    Ok(Some(Arc::new(SqliteStore::open(&path).await?)))
}
