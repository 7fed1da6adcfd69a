//! What is under an artifact's key before anything is carried, and before it is given up.

use std::sync::atomic::Ordering;

use crate::error::{Class, Error, Result};
use crate::model::Archived;
use crate::transfer::attempt::TransferAttempt;
use crate::transfer::free_name::FreeNames;
use crate::transfer::upload::complete::KnownObject;

impl TransferAttempt<'_> {
    /// Goes to the first name that nobody else has. `Some` when our own object is there already: an
    /// earlier attempt was killed between sealing and settling.
    pub(super) async fn find_free_or_ours(
        &self,
        names: &mut FreeNames,
    ) -> Result<Option<Archived>> {
        self.is_looked.store(true, Ordering::Relaxed);
        loop {
            let key = names.key();
            let Some(info) = self.engine.objects.head(&key).await? else {
                return Ok(None);
            };
            match self.recognise(&key, &info) {
                KnownObject::Whole(sealed) => return Ok(Some(sealed.archived(&key, info))),
                // It is carried again, and found equal or not when it is put.
                KnownObject::Perhaps => return Ok(None),
                KnownObject::Other => names.next()?,
            }
        }
    }

    /// What is lost may be there all the same: before a dead origin ends the attempt it is looked once.
    pub(super) async fn look_before_loss(
        &self,
        names: &mut FreeNames,
        error: Error,
    ) -> Result<Archived> {
        let is_dead = matches!(error.class(), Class::Expired | Class::Denied | Class::Gone);
        if !is_dead || self.is_looked.load(Ordering::Relaxed) {
            return Err(error);
        }
        match self.find_free_or_ours(names).await {
            Ok(Some(archived)) => Ok(self.told(archived)),
            Ok(None) | Err(_) => Err(error),
        }
    }

    /// As [`TransferAttempt::find_free_or_ours`], unless it was looked already; while the origin is held open.
    pub(super) async fn look_before_upload(
        &self,
        names: &mut FreeNames,
    ) -> Result<Option<Archived>> {
        if self.is_looked.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let patience = self.patience();
        let mut tries = patience.tries();
        loop {
            match self.find_free_or_ours(names).await {
                Err(error) if tries.wait_after(&error).await => {}
                Err(error) => return Err(error),
                Ok(found) => return Ok(found),
            }
        }
    }
}
