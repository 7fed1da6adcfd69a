//! The store: there, writable, with room on its disk.

use std::path::Path;

use super::checkup::Checkup;
use crate::config::Config;
use crate::error::Error;
use crate::report::board;
use crate::store::sqlite::SqliteStore;
use crate::store::{OperatorAccess, ScanStore as _, StoreLifecycle as _};

/// With less the store stops taking events in soon.
const LOW_SPACE_BYTES: u64 = 1 << 30;

/// With less it is about to.
const NO_SPACE_BYTES: u64 = 64 << 20;

/// More need not be counted.
const UNKNOWN_EVENTS_MAX: u32 = 1_000;

pub(super) async fn examine(config: &Config, checkup: &mut Checkup) {
    let path = config.store_path();
    let is_usable = match path.exists() {
        true => open(&path, checkup).await,
        false => could_be_made(&path, checkup),
    };
    if is_usable {
        space(&path, checkup);
    }
}

async fn open(path: &Path, checkup: &mut Checkup) -> bool {
    let shown = path.display();
    let fix = "check its rights and those of its folder, and that it is a store of this version; `data_dir` or \
               `store.url` sets the place";
    let store = match SqliteStore::open(path).await {
        Ok(store) => store,
        Err(error) => {
            checkup.fault("store", &error, fix);
            return false;
        }
    };
    // Ends a walk that nobody has begun: a write that changes nothing.
    let written = store.end_walk("doctor", "doctor", None).await;
    let is_worked_on = store.lock_worker().await.is_err();
    unknown_events(&store, checkup).await;
    store.close().await;
    match written {
        Ok(()) => {
            let beside = match is_worked_on {
                true => "a worker runs on it",
                false => "no worker runs on it",
            };
            checkup.good(
                "store",
                format!("{shown} can be read and written; {beside}"),
            );
            true
        }
        Err(error) => {
            checkup.fault("store", &error, fix);
            false
        }
    }
}

/// Events that nobody could make out may name recordings that are lost for it.
async fn unknown_events(store: &dyn OperatorAccess, checkup: &mut Checkup) {
    let Ok(unknown) = store.unknown_events(None, None, UNKNOWN_EVENTS_MAX).await else {
        // What is wrong with the store is told by the check of it.
        return;
    };
    let count = match unknown.len() {
        0 => return,
        most if most == UNKNOWN_EVENTS_MAX as usize => format!("{most} events or more"),
        count => format!("{count} events"),
    };
    checkup.warn(
        "store.unknown_events",
        format!("{count} came in that could not be understood"),
        "`harvester events --unknown` says why; after an upgrade `harvester retry --unknown` reads them again",
    );
}

fn could_be_made(path: &Path, checkup: &mut Checkup) -> bool {
    let shown = path.display();
    let folder = existing_folder(path);
    match tempfile::tempfile_in(folder) {
        Ok(_) => {
            checkup.good("store", format!("{shown} is not there yet and can be made"));
            true
        }
        Err(cause) => {
            let error = Error::internal(format!("write in {}", folder.display()));
            checkup.fault(
                "store",
                &error.with_source(cause),
                "let the harvester's user write there, or set `data_dir` to another folder",
            );
            false
        }
    }
}

/// The nearest that is there; one that is no folder lets nothing be made.
fn existing_folder(path: &Path) -> &Path {
    let mut folders = path.ancestors().skip(1);
    let folder = folders.find(|folder| folder.exists());
    folder.unwrap_or(Path::new("."))
}

fn space(path: &Path, checkup: &mut Checkup) {
    let Ok(disk) = rustix::fs::statvfs(existing_folder(path)) else {
        return;
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let message = format!("{} are free for the store", board::bytes(free));
    let fix = "make room: webhooks are refused (503) when events can't be stored";
    match free {
        0..NO_SPACE_BYTES => checkup.bad("store.space", message, fix),
        NO_SPACE_BYTES..LOW_SPACE_BYTES => checkup.warn("store.space", message, fix),
        _ => checkup.good("store.space", message),
    }
}
