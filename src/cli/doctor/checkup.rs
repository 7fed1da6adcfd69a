//! What was looked at and how it is, a line each.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::error::Error;
use crate::report::printable::printable;

/// A clock that is off by more can't be trusted with deadlines, and far more makes S3 refuse every request.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(60);

/// All lines.
#[derive(Debug, Serialize)]
pub(super) struct Checkup {
    /// Whether none is a fault.
    pub(super) ok: bool,
    pub(super) checks: Vec<CheckupLine>,
}

impl Default for Checkup {
    fn default() -> Self {
        Checkup {
            ok: true,
            checks: Vec::new(),
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct CheckupLine {
    pub(super) check: String,
    pub(super) status: Status,
    pub(super) message: String,
    /// What to do about it.
    pub(super) fix: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    Warning,
    Fault,
}

impl Checkup {
    pub(super) fn good(&mut self, check: impl Into<String>, message: impl Into<String>) {
        self.push(check.into(), Status::Ok, message.into(), None);
    }

    pub(super) fn warn(
        &mut self,
        check: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(
            check.into(),
            Status::Warning,
            message.into(),
            Some(fix.into()),
        );
    }

    pub(super) fn bad(
        &mut self,
        check: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.ok = false;
        self.push(
            check.into(),
            Status::Fault,
            message.into(),
            Some(fix.into()),
        );
    }

    /// Something that failed.
    pub(super) fn fault(
        &mut self,
        check: impl Into<String>,
        error: &Error,
        fix: impl Into<String>,
    ) {
        self.bad(check, format!("failed to {}", error.full_message()), fix);
    }

    /// A setting that is wrong; the error's message says which, why and how to mend it.
    pub(super) fn misconfigured(&mut self, check: impl Into<String>, error: &Error) {
        let fix = "`harvester run` does not start before that is done";
        self.bad(check, error.full_message(), fix);
    }

    /// Our clock against another's; one that was not told is no line.
    pub(super) fn clock(
        &mut self,
        check: impl Into<String>,
        whose: &str,
        theirs: Option<Timestamp>,
        ours: Timestamp,
    ) {
        let Some(theirs) = theirs else { return };
        let skew = ours.duration_since(theirs);
        let seconds = skew.abs().as_secs();
        if skew.abs() <= SKEW_MAX {
            self.good(check, format!("within {seconds} s of {whose}"));
            return;
        }
        let way = if skew.is_negative() {
            "behind"
        } else {
            "ahead of"
        };
        self.bad(
            check,
            format!("this machine's clock is {seconds} s {way} that of {whose}"),
            "let it be set by NTP (chrony, systemd-timesyncd); signatures and deadlines depend on it",
        );
    }

    fn push(&mut self, check: String, status: Status, message: String, fix: Option<String>) {
        let message = printable(&message);
        self.checks.push(CheckupLine {
            check,
            status,
            message,
            fix,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_in_both_directions() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let mut checkup = Checkup::default();
        checkup.clock("clock", "S3", Some(at(-59)), at(0));
        checkup.clock("clock", "S3", None, at(0));
        assert!(checkup.ok && checkup.checks.len() == 1);
        checkup.clock("clock", "S3", Some(at(7200)), at(0));
        checkup.clock("clock", "S3", Some(at(-61)), at(0));
        let said: Vec<_> = checkup.checks[1..]
            .iter()
            .map(|line| &line.message[..])
            .collect();
        assert_eq!(
            said,
            [
                "this machine's clock is 7200 s behind that of S3",
                "this machine's clock is 61 s ahead of that of S3"
            ]
        );
        assert!(!checkup.ok);
    }
}
