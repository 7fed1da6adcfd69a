//! The retry budget as a table, and its edges.

use super::*;
use crate::model::DeadlineFrom;

const NOW: i64 = 1_000_000;

// S19
#[test]
fn what_we_hold_back_ourselves_costs_no_attempt() {
    let error = Error::transient(Class::Throttled, "x").held_back(Duration::from_secs(7_200));
    let settings = RetrySettings::default();
    let decided = |deadline| decide(&error, &attempt(12, deadline), &settings);
    let retry = |at| {
        Decision::Settle(Outcome::Retry {
            at: second(NOW + at),
            class: Class::Throttled,
            message: "x".to_owned(),
            is_counted: false,
        })
    };
    assert_eq!(decided(Deadline::NONE), retry(300));
    let last_try = LAST_TRY.as_secs();
    assert_eq!(decided(deadline_in(100 + last_try)), retry(100));
    // It is asked for as soon as the limit is lifted, or else once more when no clock can be that wrong.
    assert_eq!(decided(deadline_in(0)), retry(60));
    let ended = decided(deadline_in(-60));
    assert!(
        matches!(ended, Decision::Settle(Outcome::Expired { .. })),
        "{ended:?}"
    );
}

#[test]
fn a_limit_that_is_lifted_just_after_the_urls_end_leaves_it_a_request() {
    let error = Error::transient(Class::Throttled, "x").held_back(Duration::from_secs(20));
    assert_eq!(decided(&error, &attempt(1, deadline_in(1))), "retry+20");
    assert_eq!(decided(&error, &attempt(1, deadline_in(-10))), "retry+20");
}

/// A documented lifetime is a guess: what is past it may live, and only the origin's answer tells.
#[test]
fn a_guessed_end_never_loses_what_was_not_asked_for() {
    let guessed = |seconds| Deadline::at(second(NOW + seconds), DeadlineFrom::Documented);
    let held_back = Error::transient(Class::Throttled, "x").held_back(Duration::from_secs(7_200));
    for (seconds, expected) in [
        (3600, "retry+300"),
        (105, "retry+100"),
        (-1, "retry+59"),
        (-86_400, "retry+300"),
    ] {
        let attempt = attempt(12, guessed(seconds));
        assert_eq!(decided(&held_back, &attempt), expected, "{seconds}");
    }
    for class in [
        Class::Unreachable,
        Class::Throttled,
        Class::Gone,
        Class::Corrupt,
        Class::Partial,
        Class::UploadFailed,
    ] {
        let error =
            Error::transient(class, "open it").with_retry_after(Some(Duration::from_secs(40)));
        for (seconds, expected) in [(30, "retry+25"), (-1, "retry+40"), (-86_400, "retry+40")] {
            let decided = decided(&error, &attempt(1, guessed(seconds)));
            assert_eq!(decided, expected, "{class} {seconds}");
        }
    }
    let unreachable = Error::transient(Class::Unreachable, "connect");
    assert_eq!(decided(&unreachable, &attempt(12, guessed(-1))), "failed");
    let denied = Error::new(Class::Denied, "open it: 403");
    assert_eq!(decided(&denied, &attempt(1, guessed(-1))), "expired");
}

// R3c, S19
#[test]
fn what_we_hold_back_is_not_given_up_by_a_clock_that_is_ahead_of_the_origins() {
    let error = Error::transient(Class::Throttled, "x").held_back(Duration::from_secs(7_200));
    let settings = RetrySettings::default();
    let ahead = FailedAttempt {
        ahead: SignedDuration::from_secs(600),
        ..attempt(1, deadline_in(-400))
    };
    // 200 seconds are left there.
    let at = NOW + 200 - LAST_TRY.as_secs();
    let decided = decide(&error, &ahead, &settings);
    assert!(
        matches!(&decided, Decision::Settle(Outcome::Retry { at: then, .. }) if *then == second(at)),
        "{decided:?}"
    );
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn deadline_in(seconds: i64) -> Deadline {
    Deadline::at(second(NOW + seconds), DeadlineFrom::Query)
}

fn attempt(number: u32, deadline: Deadline) -> FailedAttempt {
    FailedAttempt {
        number,
        first_at: second(NOW - 100),
        deadline,
        can_remint: false,
        is_watched: false,
        ahead: SignedDuration::ZERO,
        now: second(NOW),
        jitter: 1.0,
    }
}

/// A decision in one short word: waits in seconds from now.
fn word(decision: &Decision) -> String {
    let wait = |at: &Timestamp| at.as_second() - NOW;
    match decision {
        Decision::Remint => "remint".to_owned(),
        Decision::PauseDestination { until, .. } => format!("pause+{}", wait(until)),
        Decision::Settle(Outcome::Retry { at, .. }) => format!("retry+{}", wait(at)),
        Decision::Settle(Outcome::Expired { .. }) => "expired".to_owned(),
        Decision::Settle(Outcome::Failed { .. }) => "failed".to_owned(),
        Decision::Settle(Outcome::Archived(_)) => "archived?!".to_owned(),
    }
}

fn decided(error: &Error, attempt: &FailedAttempt) -> String {
    word(&decide(error, attempt, &RetrySettings::default()))
}

#[test]
fn the_whole_table() {
    let settings = RetrySettings::default();
    let deadlines = [
        ("none", Deadline::NONE),
        ("far", deadline_in(3600)),
        ("near", deadline_in(30)),
        ("past", deadline_in(-1)),
    ];
    let mut table = format!("{:<26}", "");
    for (name, _) in deadlines {
        for column in ["first", "last", "remint"] {
            table.push_str(&format!("{:<12}", format!("{name} {column}")));
        }
    }
    for class in Class::ALL {
        for is_transient in [false, true] {
            let error = if is_transient {
                Error::transient(class, "open it").with_retry_after(Some(
                    // Longer than the backoff, and than what is left of a near deadline.
                    Duration::from_secs(40),
                ))
            } else {
                Error::new(class, "open it")
            };
            let transient = if is_transient { " transient" } else { "" };
            table = format!(
                "{}\n{:<26}",
                table.trim_end(),
                format!("{class}{transient}")
            );
            for (_, deadline) in deadlines {
                let first = attempt(1, deadline);
                let last = attempt(settings.max_attempts, deadline);
                let remint = FailedAttempt {
                    can_remint: true,
                    ..first
                };
                for situation in [first, last, remint] {
                    table.push_str(&format!("{:<12}", decided(&error, &situation)));
                }
            }
        }
    }
    insta::assert_snapshot!(table.trim_end(), @r"
                              none first  none last   none remint far first   far last    far remint  near first  near last   near remint past first  past last   past remint
    provider_failed           failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
    provider_failed transient retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
    expired                   expired     expired     remint      expired     expired     remint      expired     expired     remint      expired     expired     remint
    expired transient         expired     expired     remint      expired     expired     remint      expired     expired     remint      expired     expired     remint
    denied                    failed      failed      remint      failed      failed      remint      expired     expired     remint      expired     expired     remint
    denied transient          failed      failed      remint      failed      failed      remint      expired     expired     remint      expired     expired     remint
    gone                      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
    gone transient            retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
    refused                   failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
    refused transient         retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
    corrupt                   failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
    corrupt transient         retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
    unreachable               failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
    unreachable transient     retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    retry+40    failed      retry+40
    throttled                 failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
    throttled transient       retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    retry+40    failed      retry+40
    upload_denied             pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60
    upload_denied transient   pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60    pause+60
    upload_failed             failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
    upload_failed transient   retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    retry+40    failed      retry+40
    partial                   failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
    partial transient         retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
    invalid                   failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
    invalid transient         retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    failed      failed      retry+40
    internal                  failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed      failed
    internal transient        retry+40    failed      retry+40    retry+40    failed      retry+40    retry+25    failed      retry+40    retry+40    failed      retry+40
    ");
}

#[test]
fn waits_double_up_to_the_longest_and_jitter_takes_any_part_of_them() {
    let error = Error::transient(Class::Unreachable, "connect");
    let waits: Vec<_> = (1..12)
        .map(|number| decided(&error, &attempt(number, Deadline::NONE)))
        .collect();
    assert_eq!(
        waits.join(" "),
        "retry+1 retry+2 retry+4 retry+8 retry+16 retry+32 retry+64 retry+128 retry+256 \
         retry+300 retry+300"
    );
    let at_once = FailedAttempt {
        jitter: 0.0,
        ..attempt(9, Deadline::NONE)
    };
    assert_eq!(decided(&error, &at_once), "retry+0");
}

#[test]
fn retry_after_is_honoured_up_to_the_longest_wait() {
    for (asked, expected) in [(0, "retry+1"), (40, "retry+40"), (86_400, "retry+300")] {
        let error = Error::transient(Class::Throttled, "open it")
            .with_retry_after(Some(Duration::from_secs(asked)));
        assert_eq!(decided(&error, &attempt(1, Deadline::NONE)), expected);
    }
}

// R22
#[test]
fn f16_a_404_is_asked_for_over_many_minutes_and_at_a_terminal_for_about_one() {
    let error = Error::transient(Class::Gone, "open it: 404");
    let decisions = |is_watched, jitter| {
        let decisions: Vec<_> = (1..=12)
            .map(|number| FailedAttempt {
                is_watched,
                jitter,
                ..attempt(number, Deadline::NONE)
            })
            .map(|attempt| decided(&error, &attempt))
            .collect();
        decisions.join(" ")
    };
    assert_eq!(
        decisions(false, 0.0),
        "retry+2 retry+4 retry+8 retry+16 retry+32 retry+64 retry+128 retry+150 retry+150 \
         retry+150 retry+150 failed"
    );
    let watched = decisions(true, 1.0);
    assert!(
        watched.starts_with("retry+4 retry+8 retry+16 retry+32 failed"),
        "{watched}"
    );
}

// R2
#[test]
fn a_denial_of_one_object_is_counted_and_in_the_end_final() {
    let error = Error::new(Class::UploadDenied, "upload part 1 of k: 403");
    let settings = RetrySettings::default();
    let own = |number, is_watched| {
        let attempt = FailedAttempt {
            is_watched,
            ..attempt(number, Deadline::NONE)
        };
        word(&Decision::Settle(decide_own_denial(
            &error, &attempt, &settings,
        )))
    };
    assert_eq!([own(1, false), own(4, false)], ["retry+1", "retry+8"]);
    assert_eq!([own(12, false), own(3, true)], ["failed", "failed"]);
}

// R3c
#[test]
fn f94_no_answer_past_the_deadline_is_final_only_when_our_clock_can_not_be_wrong() {
    let error = Error::transient(Class::Unreachable, "open it: 503");
    let at = |seconds, ahead| FailedAttempt {
        ahead: SignedDuration::from_secs(ahead),
        ..attempt(1, deadline_in(seconds))
    };
    for (seconds, ahead, expected) in [
        (-1, 0, "retry+1"),
        (-59, 0, "retry+1"),
        (-60, 0, "expired"),
        // The origin's own clock says that its URL lives for 100 s more.
        (-500, 600, "retry+1"),
        (-660, 600, "expired"),
        // Behind: the origin has the last word anyway.
        (-30, -600, "retry+1"),
    ] {
        assert_eq!(
            decided(&error, &at(seconds, ahead)),
            expected,
            "{seconds} {ahead}"
        );
    }
    let denied = Error::new(Class::Denied, "open it: 403");
    assert_eq!(decided(&denied, &at(500, -600)), "expired");
    assert_eq!(decided(&denied, &at(30, 600)), "failed");
}

#[test]
fn damage_is_read_three_times() {
    let error = Error::transient(Class::Corrupt, "check it: no moov box");
    assert_eq!(decided(&error, &attempt(2, Deadline::NONE)), "retry+2");
    assert_eq!(decided(&error, &attempt(3, Deadline::NONE)), "failed");
}

#[test]
fn the_budget_ends_by_time_too() {
    let error = Error::transient(Class::Unreachable, "connect");
    let yesterday = FailedAttempt {
        first_at: second(NOW - 24 * 3600),
        ..attempt(3, Deadline::NONE)
    };
    assert_eq!(decided(&error, &yesterday), "failed");
}

#[test]
fn the_last_try_before_the_deadline_is_not_skipped() {
    let error = Error::transient(Class::Unreachable, "connect");
    // The backoff of attempt 8 is 128 s; the URL lives 100 s.
    assert_eq!(decided(&error, &attempt(8, deadline_in(100))), "retry+95");
    // A wait that still fits is taken even in the last seconds.
    assert_eq!(decided(&error, &attempt(1, deadline_in(3))), "retry+1");
    assert_eq!(decided(&error, &attempt(8, deadline_in(3))), "retry+63");
}

#[test]
fn f46_pieces_whose_signatures_ended_lead_to_a_fresh_url_where_one_can_be_had() {
    let error = Error::new(Class::Partial, "archive all of the playlist").with_stale_url();
    let attempt = attempt(1, deadline_in(3600));
    assert_eq!(decided(&error, &attempt), "failed");
    let remint = FailedAttempt {
        can_remint: true,
        ..attempt
    };
    assert_eq!(decided(&error, &remint), "remint");
    let lost = Error::new(Class::Partial, "archive all of the playlist");
    assert_eq!(decided(&lost, &remint), "failed");
}

#[test]
fn messages_keep_the_cause() {
    let error = Error::transient(Class::Unreachable, "connect to cdn.example")
        .with_source(std::io::Error::other("connection refused"));
    let settings = RetrySettings::default();
    let message = |attempt: &FailedAttempt| match decide(&error, attempt, &settings) {
        Decision::Settle(
            Outcome::Retry { message, .. }
            | Outcome::Expired { message }
            | Outcome::Failed { message, .. },
        ) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        message(&attempt(1, Deadline::NONE)),
        "connect to cdn.example: connection refused"
    );
    assert_eq!(
        message(&attempt(12, Deadline::NONE)),
        "connect to cdn.example: connection refused (given up after 12 attempts)"
    );
    assert_eq!(
        message(&attempt(1, deadline_in(-61))),
        "connect to cdn.example: connection refused \
         (the URL could be opened until 1970-01-12T13:45:39Z)"
    );
}
