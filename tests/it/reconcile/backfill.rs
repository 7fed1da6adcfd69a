//! `harvester backfill` with the real program: dry and wet, alone and beside webhooks and a worker.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::{PATIENCE, World, found, lines, outcomes};
use crate::harness::binary;
use crate::harness::s3::{Fault, Kind, Op};

fn statuses(printed: &str) -> Vec<String> {
    let mut statuses: Vec<_> = found(printed)
        .iter()
        .map(|line| line["status"].as_str().unwrap().to_owned())
        .collect();
    statuses.sort_unstable();
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_is_missing_and_writes_nothing() {
    let world = World::start("").await;
    world.daily.with(|daily| {
        daily.add_recordings(250);
        daily.recordings[3].status = "in-progress";
    });
    let (printed, code) = world
        .finish(&["--json", "backfill", "daily", "--since", "7d", "--dry-run"])
        .await;
    assert_eq!(code, Some(0), "{}", world.log());
    let found = lines(&printed);
    assert_eq!(found.len(), 249);
    let first = &found[0];
    assert_eq!(first["status"], "new");
    assert_eq!(first["recorded"], false);
    assert_eq!(first["source"], "daily");
    assert_eq!(first["recording"]["id"], "rec-0000");
    assert_eq!(
        first["artifacts"],
        json!([{"name": "recording.mp4", "kind": "video"}])
    );
    assert_eq!(first["jobs"], json!([]));
    assert!(!world.folder.path().join("data").exists());
    assert!(world.s3.requests().is_empty());
    let links = world.daily.with(|daily| {
        daily
            .asked
            .iter()
            .filter(|a| a.contains("access-link"))
            .count()
    });
    assert_eq!(links, 0);

    // The window is about when things ended: the first did so an hour ago, the next each a minute earlier.
    let (printed, _) = world
        .finish(&[
            "--json",
            "backfill",
            "daily",
            "--since",
            "2h",
            "--until",
            "90m",
            "--dry-run",
        ])
        .await;
    assert_eq!(lines(&printed).len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_run_archives_and_a_second_one_finds_nothing_to_do() {
    let world = World::start("").await;
    world.daily.with(|daily| daily.add_recordings(120));
    let backfill = ["--json", "backfill", "daily", "--since", "7d"];
    let (printed, code) = world.finish(&backfill).await;
    assert_eq!(code, Some(0), "{}", world.log());
    assert_eq!(statuses(&printed), vec!["new"; 120]);
    assert!(found(&printed).iter().all(|line| line["recorded"] == true));
    // Then what became of each, and at last the sum.
    assert_eq!(outcomes(&printed).len(), 120);
    let last = lines(&printed).pop().unwrap();
    assert_eq!(
        last["summary"],
        json!({"found": 120, "new": 120, "lost": 0, "open": 0, "failures": 0, "undated": 0, "complete": true})
    );
    let (objects, manifests) = world.bucket();
    assert_eq!((objects.len(), manifests), (120, 120));
    // The lookups that led to the files are not among what is open.
    let log = world.log();
    assert!(log.lines().any(|line| line == "120 archived"), "{log}");

    let puts = world.s3.requests().len();
    let (printed, code) = world.finish(&backfill).await;
    assert_eq!(code, Some(0), "{}", world.log());
    assert_eq!(statuses(&printed), vec!["known"; 120]);
    assert_eq!(world.s3.requests().len(), puts);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backfill_goes_on_where_it_stopped() {
    for is_killed in [false, true] {
        let world = World::start("").await;
        world.daily.with(|daily| {
            daily.add_recordings(6);
            daily.holds_files = true;
        });
        let backfill = ["--json", "backfill", "daily", "--since", "7d"];
        let mut command = binary::harvester(&world.config, &backfill);
        let mut child = command.envs(world.env()).spawn().unwrap();
        let underway = async {
            while world.daily.with(|daily| daily.count("GET /files/")) == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, underway).await.unwrap();
        match is_killed {
            true => child.start_kill().unwrap(),
            false => binary::signal_term(&child),
        }
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let code = ended.unwrap().unwrap().code();
        assert_eq!(code, (!is_killed).then_some(1), "{}", world.log());
        let is_told = world
            .log()
            .contains("the same command goes on where this one stopped");
        assert_eq!(is_told, !is_killed, "{}", world.log());
        let (objects, _) = world.bucket();
        assert!(objects.is_empty(), "{:?}", objects.keys());

        world.daily.with(|daily| daily.holds_files = false);
        let (printed, code) = world.finish(&backfill).await;
        assert_eq!(code, Some(0), "{}", world.log());
        assert_eq!(statuses(&printed), vec!["known"; 6]);
        let jobs: BTreeSet<_> = found(&printed)
            .iter()
            .map(|line| line["jobs"][0].to_string())
            .collect();
        assert_eq!(jobs.len(), 6, "each with the job that is worked on");
        let (objects, manifests) = world.bucket();
        assert_eq!((objects.len(), manifests), (6, 6), "{objects:?}");
        assert_eq!(world.puts().values().max(), Some(&1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_an_earlier_backfill_owes_is_written_by_the_next_one() {
    let world = World::start("").await;
    world.daily.with(|daily| daily.add_recordings(1));
    // The recording gets into the bucket, and its manifest does not.
    let fault = Fault::times(Op::PutObject, 2, Kind::AccessDenied);
    world.s3.fail(fault.of("/manifest.json"));
    let backfill = ["--json", "backfill", "daily", "--since", "7d"];
    assert_eq!(world.finish(&backfill).await.1, Some(0), "{}", world.log());
    let (objects, manifests) = world.bucket();
    assert_eq!((objects.len(), manifests), (1, 0), "{}", world.log());
    let (printed, code) = world.finish(&backfill).await;
    assert_eq!(code, Some(0), "{}", world.log());
    assert_eq!(statuses(&printed), ["known"]);
    let (objects, manifests) = world.bucket();
    assert_eq!((objects.len(), manifests), (1, 1), "{}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_that_breaks_off_archives_what_it_found_and_the_next_one_the_rest() {
    let world = World::start("").await;
    world.daily.with(|daily| {
        daily.add_recordings(130);
        daily.after_page = Some(Box::new(|daily, page| {
            if page == 1 {
                daily.faults.push(("/recordings".to_owned(), 422));
            }
        }));
    });
    let backfill = ["--json", "backfill", "daily", "--since", "7d"];
    let (printed, code) = world.finish(&backfill).await;
    assert_eq!(code, Some(1), "{}", world.log());
    assert_eq!(
        (found(&printed).len(), outcomes(&printed).len()),
        (100, 100)
    );
    let said = lines(&printed);
    let error = said.iter().find_map(|line| line.get("error")).unwrap();
    assert!(
        error["message"].as_str().unwrap().contains("422"),
        "{error}"
    );
    assert!(world.log().contains("not all that exists was seen"));
    assert_eq!(world.bucket().0.len(), 100);
    // The other list was read all the same.
    assert_eq!(
        world.daily.with(|daily| daily.count("GET /v1/transcript")),
        1
    );

    let (printed, code) = world.finish(&backfill).await;
    assert_eq!(code, Some(0), "{}", world.log());
    assert_eq!((found(&printed).len(), outcomes(&printed).len()), (130, 30));
    let (objects, manifests) = world.bucket();
    assert_eq!((objects.len(), manifests), (130, 130));
    assert_eq!(world.puts().values().max(), Some(&1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_dates_is_read_to_its_end_by_backfill_and_to_a_bound_by_the_worker() {
    let world = World::start("reconcile = \"1h\"").await;
    world.daily.with(|daily| {
        daily.page_size = Some(1);
        daily.add_undated_transcripts(23);
    });
    let (printed, code) = world
        .finish(&["--json", "backfill", "daily", "--since", "7d", "--dry-run"])
        .await;
    assert_eq!(code, Some(0), "{}", world.log());
    assert_eq!(lines(&printed).len(), 23);
    assert!(world.log().contains("23 without a date"), "{}", world.log());

    let asked = world.daily.with(|daily| daily.count("GET /v1/transcript?"));
    assert_eq!(asked, 24);
    let running = world.run().await;
    let told = async {
        while !world.log().contains("things on this list have no dates") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await;
    assert!(told.is_ok(), "{}", world.log());
    assert_eq!(running.terminate().await, Some(0));
    let again = world.daily.with(|daily| daily.count("GET /v1/transcript?"));
    assert_eq!(again - asked, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_and_backfill_give_the_same_keys_whichever_comes_first() {
    let world = World::start("").await;
    world.daily.with(|daily| daily.add_recordings(2));
    let backfill = ["--json", "backfill", "daily", "--since", "7d"];

    // The first by webhook, then both by backfill beside the worker, then both by webhook.
    let running = world.run().await;
    world.post(&running, &world.webhook(0)).await;
    world.archived(1).await;
    let (by_webhook, _) = world.bucket();
    let (printed, code) = world.finish(&backfill).await;
    assert_eq!(code, Some(0), "{}", world.log());
    assert_eq!(statuses(&printed), ["known", "new"]);
    assert!(
        world.log().contains("the worker that runs on this store"),
        "{}",
        world.log()
    );
    world.archived(2).await;
    let (by_backfill, _) = world.bucket();
    for number in 0..2 {
        world.post(&running, &world.webhook(number)).await;
    }
    let settled = async {
        loop {
            let records = binary::records(&world.config).await;
            if records.len() == 4 && records.iter().all(|record| record["state"] == "archived") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap();
    assert_eq!(running.terminate().await, Some(0));

    let (all, _) = world.bucket();
    let videos = |objects: &std::collections::BTreeMap<String, Vec<u8>>| -> BTreeSet<String> {
        objects
            .keys()
            .filter(|key| key.ends_with(".mp4"))
            .cloned()
            .collect()
    };
    assert_eq!(videos(&by_webhook).len(), 1);
    assert_eq!(videos(&by_backfill).len(), 2);
    assert!(videos(&by_webhook).is_subset(&videos(&by_backfill)));
    assert_eq!(videos(&all), videos(&by_backfill));
    assert!(
        world.puts().values().all(|count| *count == 1),
        "{:?}",
        world.puts()
    );
    // The same template filled in the same way: the two differ in their recording only.
    let folders: BTreeSet<_> = videos(&all)
        .iter()
        .map(|key| key.split('/').count())
        .collect();
    assert_eq!(folders.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_changes_while_it_is_read_loses_and_doubles_nothing() {
    let world = World::start("").await;
    world.daily.with(|daily| {
        daily.add_recordings(330);
        daily.after_page = Some(Box::new(|daily, page| match page {
            1 => {
                // A new one at the top, and two go: one that was read and one that was not.
                let mut new = daily.recordings[0].clone();
                new.id = "rec-new".to_owned();
                daily.recordings.insert(0, new);
                daily
                    .recordings
                    .retain(|one| !["rec-0005", "rec-0250"].contains(&one.id.as_str()));
            }
            2 => daily.faults.push(("/recordings".to_owned(), 500)),
            _ => {}
        }));
    });
    let (printed, code) = world
        .finish(&["--json", "backfill", "daily", "--since", "7d", "--dry-run"])
        .await;
    assert_eq!(code, Some(0), "{}", world.log());
    let ids: Vec<_> = lines(&printed)
        .iter()
        .map(|line| line["recording"]["id"].as_str().unwrap().to_owned())
        .collect();
    let unique: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!(ids.len(), unique.len());
    let expected: BTreeSet<_> = (0..330)
        .filter(|number| *number != 250)
        .map(|number| format!("rec-{number:04}"))
        .collect();
    assert_eq!(unique, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_text_for_a_link_is_a_loss_that_a_later_backfill_makes_good() {
    let world = World::start("").await;
    world.daily.with(|daily| {
        daily.add_recordings(1);
        daily.error_text = Some("Unable to create access link for this recording".to_owned());
        daily
            .faults
            .push(("/recordings/rec-0000/access-link".to_owned(), 429));
    });
    let backfill = ["--json", "backfill", "daily", "--since", "7d"];
    let (printed, code) = world.finish(&backfill).await;
    assert_eq!(code, Some(1));
    assert_eq!(statuses(&printed), ["new"]);
    let records = binary::records(&world.config).await;
    assert_eq!(records[0]["class"], "provider_failed");
    let message = records[0]["message"].as_str().unwrap();
    assert!(
        message.contains("Unable to create access link"),
        "{message}"
    );

    world.daily.with(|daily| daily.error_text = None);
    let (printed, code) = world.finish(&backfill).await;
    assert_eq!(code, Some(0), "{}", world.log());
    assert_eq!(statuses(&printed), ["lost"]);
    let (objects, _) = world.bucket();
    assert!(
        objects
            .keys()
            .any(|key| key.ends_with("rec-0000/recording.mp4")),
        "{objects:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_asked_is_said_with_what_to_do() {
    let world = World::start("").await;
    let text = std::fs::read_to_string(&world.config).unwrap();
    let cases = [
        (
            text.replace("daily-key-canary", "wrong-canary"),
            "denied",
            "api_key",
        ),
        (
            text.replace("api_key = \"daily-key-canary\"", ""),
            "denied",
            "sources.daily.api_key",
        ),
    ];
    for (config, class, advice) in cases {
        std::fs::write(&world.config, config).unwrap();
        let (printed, code) = world
            .finish(&["--json", "backfill", "daily", "--since", "7d", "--dry-run"])
            .await;
        assert_eq!(code, Some(1));
        let said = &lines(&printed)[0]["error"];
        assert_eq!(said["class"], class);
        assert!(said["message"].as_str().unwrap().contains(advice), "{said}");
    }
    for arguments in [
        &["backfill", "nobody", "--since", "7d"][..],
        &["backfill", "daily", "--since", "1h", "--until", "2h"],
        &["backfill", "daily"],
    ] {
        assert_eq!(world.finish(arguments).await.1, Some(2), "{arguments:?}");
    }
    assert!(!world.log().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn f74_after_the_store_is_lost_finished_objects_are_recognised_by_their_content() {
    let world = World::start("").await;
    world.daily.with(|daily| daily.add_recordings(3));
    let backfill = ["--json", "backfill", "daily", "--since", "7d"];
    assert_eq!(world.finish(&backfill).await.1, Some(0), "{}", world.log());
    let (before, _) = world.bucket();
    std::fs::remove_dir_all(world.folder.path().join("data")).unwrap();
    let (printed, code) = world.finish(&backfill).await;
    assert_eq!(code, Some(0), "{}", world.log());
    assert_eq!(statuses(&printed), vec!["new"; 3]);
    let (mut after, _) = world.bucket();
    // A manifest of a store that is gone is not overwritten: the new one has a number.
    after.retain(|key, _| !key.contains("/manifest-"));
    let keys = |objects: &std::collections::BTreeMap<String, Vec<u8>>| -> Vec<String> {
        objects.keys().cloned().collect()
    };
    assert_eq!(keys(&after), keys(&before));
    let records = binary::records(&world.config).await;
    assert!(records.iter().all(|record| record["state"] == "archived"));
}
