//! What SQLite's result codes mean for us.

use sqlx::error::DatabaseError as _;
use sqlx::sqlite::SqliteError;

use crate::error::{Class, Error};

// https://sqlite.org/rescode.html
const BUSY: i32 = 5;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const NOT_A_DATABASE: i32 = 26;
const IO_ERROR_FSYNC: i32 = 1034;
const IO_ERROR_DIR_FSYNC: i32 = 1290;

/// The error for a person. Another try may cure anything but damage: SQLite's messages name
/// tables and columns, never values, so that no secret can be in them.
pub(super) fn from(what: &str, cause: sqlx::Error) -> Error {
    let code = code(&cause);
    let what = match code.map(primary) {
        Some(FULL) => format!("{what}: the disk is full"),
        Some(BUSY) => format!("{what}: another process holds the store"),
        _ => what.to_owned(),
    };
    let error = if is_damage(&cause) {
        Error::internal(what)
    } else {
        Error::transient(Class::Internal, what)
    };
    error.with_source(cause)
}

/// Whether the file is damaged or no database at all.
pub(super) fn is_damage(cause: &sqlx::Error) -> bool {
    matches!(code(cause).map(primary), Some(CORRUPT | NOT_A_DATABASE))
}

/// Whether another process has the file.
pub(super) fn is_busy(cause: &sqlx::Error) -> bool {
    matches!(code(cause).map(primary), Some(BUSY))
}

/// Whether the machine could not make a write durable. The kernel may have dropped the pages and
/// would call a second fsync a success, so that nothing may be acknowledged any more.
pub(super) fn is_failed_sync(cause: &sqlx::Error) -> bool {
    matches!(code(cause), Some(IO_ERROR_FSYNC | IO_ERROR_DIR_FSYNC))
}

fn primary(code: i32) -> i32 {
    code & 0xff
}

fn code(cause: &sqlx::Error) -> Option<i32> {
    let sqlite = cause
        .as_database_error()?
        .try_downcast_ref::<SqliteError>()?;
    sqlite.code()?.parse().ok()
}
