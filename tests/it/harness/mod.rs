//! The world of the tests: an origin, an object store and providers' APIs that misbehave on script.

pub mod api;
pub mod archive;
pub mod binary;
pub mod daily;
pub mod garage;
pub mod origin;
pub mod overdue;
pub mod s3;
pub mod stores;

/// Says loudly that a test is left out because `missing` is not on this machine. Where everything has to be
/// there (`REQUIRE_TEST_TOOLS=all`, as in CI), that fails instead.
#[expect(
    clippy::explicit_write,
    reason = "what `eprintln!` says, a test that passes keeps to itself"
)]
pub fn skip(missing: &str) {
    use std::io::Write as _;
    let is_required = std::env::var("REQUIRE_TEST_TOOLS").is_ok_and(|value| value == "all");
    assert!(!is_required, "{missing}, and REQUIRE_TEST_TOOLS=all");
    writeln!(std::io::stderr(), "SKIPPED: {missing}").unwrap();
}
