//! All that is wrong with a configuration, told at once.

use crate::error::{Error, Result};

/// What was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<String>);

impl Faults {
    /// Adds one. Its message begins with the setting.
    pub(super) fn add(&mut self, message: impl Into<String>) {
        self.0.push(message.into());
    }

    /// Adds one that is an error already.
    pub(super) fn add_error(&mut self, error: Option<Error>) {
        self.0.extend(error.map(|error| error.full_message()));
    }

    /// One is told as it is, several a line each.
    ///
    /// # Errors
    /// `invalid` when there is any.
    pub(super) fn into_result(self) -> Result<()> {
        match &*self.0 {
            [] => Ok(()),
            [one] => Err(Error::invalid(one)),
            all => {
                let (count, lines) = (all.len(), all.join("\n  "));
                Err(Error::invalid(format!(
                    "{count} settings are wrong:\n  {lines}"
                )))
            }
        }
    }
}
