//! What a ladder tells of its waits, so that nobody takes it for one that hangs.

use std::time::Duration;

use super::super::world::{Heard, MIB, World};
use super::{hls_job, serve_all};
use crate::harness::origin::Behaviour;

/// R10: a recording may be one file of a playlist, which takes its time.
#[tokio::test]
async fn a_large_piece_tells_that_it_moves() {
    let world = World::new().await;
    let playlist = "#EXTM3U\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n";
    serve_all(&world.origin, &[("/p.m3u8", playlist)]);
    let bytes = vec![0x47; 12 * MIB as usize];
    world.origin.serve("/a.ts", bytes, Behaviour::default());
    world
        .carry(&hls_job(&world.origin, "/p.m3u8"))
        .await
        .unwrap();
    let heard = world.ledger.heard.lock().unwrap();
    let moves = heard.iter().filter(|heard| heard.end <= heard.at).count();
    assert!(moves > 0, "{heard:?}");
}

/// R10
#[tokio::test]
async fn a_playlist_that_grows_tells_when_it_is_read_again() {
    let world = World::new().await;
    let origin = &world.origin;
    let begin = "#EXTM3U\n#EXT-X-TARGETDURATION:0.2\n#EXTINF:0.2,\na.ts\n";
    origin.serve("/a.ts", "G", Behaviour::default());
    origin.serve("/p.m3u8", begin, Behaviour::default());
    let ended = async {
        while origin.requests("/p.m3u8").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let end = format!("{begin}#EXT-X-ENDLIST\n");
        origin.serve("/p.m3u8", end, Behaviour::default());
    };
    let job = hls_job(origin, "/p.m3u8");
    let (carried, ()) = tokio::join!(world.carry(&job), ended);
    carried.unwrap();
    let heard = world.ledger.heard.lock().unwrap();
    let is_pause =
        |heard: &&Heard| heard.end > heard.at && heard.end < heard.at + Duration::from_secs(30);
    assert!(heard.iter().any(|heard| is_pause(&heard)), "{heard:?}");
}
