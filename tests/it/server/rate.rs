//! How many deliveries of a source are taken in.

use recording_harvester::store::sqlite::SqliteOptions;

use super::intake::{World, hms_event};

// S19, threat 19
#[tokio::test]
async fn a_source_that_floods_is_told_to_come_back_and_only_what_is_proven_counts() {
    let world = World::start_with(SqliteOptions::default(), |intake| {
        for source in intake.sources.values_mut() {
            *source = source.clone().with_event_rate(1);
        }
    })
    .await;
    let body = hms_event("e-1");
    let right = [("x-hook-key", "canary-secret-1")];
    for _ in 0..70 {
        let answer = world
            .post_to("signed", &[("x-hook-key", "wrong")], &body)
            .await;
        assert_eq!(answer.status, 401);
    }
    let mut taken = 0;
    // A minute's worth at once, and some more while the deliveries themselves take their time.
    let refused = loop {
        let answer = world.post_to("signed", &right, &body).await;
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < 1000, "nothing is refused");
    };
    assert!(taken >= 60, "{taken}");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    // The others keep what is theirs.
    assert_eq!(world.post(&body).await.status, 200);
    world.assert_counted(
        "harvester_webhooks_rejected_total{source=\"signed\",reason=\"too_many\"} 1",
    );
}
