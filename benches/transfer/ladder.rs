//! An HLS recording of four layers, from its master playlist alone; the others get the bare list of all its files, or
//! carry the best layer only.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::contenders::{Case, Contender, Keeps, rclone_copy};
use super::stage::Stage;

/// Segments of each layer.
pub(crate) const SEGMENTS: u64 = 200;

/// What each layer is called, its bits a second and the bytes of one segment: 717 MiB in all, 382 MiB the best layer.
const LAYERS: [(&str, u32, u64); 4] = [
    ("1920x1080", 4_000_000, 2_003_000),
    ("1280x720", 2_000_000, 996_000),
    ("854x480", 1_000_000, 503_000),
    ("640x360", 500_000, 257_000),
];

/// A segment's length in seconds.
const SECONDS: u64 = 4;

/// Those who carry everything come first. `curl | ffmpeg -c copy` is left out: it wants pictures, not noise.
pub(crate) const ALL: &[Contender] = &[
    Contender {
        name: "harvester, all layers from the master",
        needs: &[],
        is_ours: true,
        keeps: Keeps::InSink,
        command: |case| {
            super::contenders::archive(case, &[&format!("{}/{}", case.origin(), case.names[0])])
        },
    },
    Contender {
        name: "rclone copy :http:, the list of all files",
        needs: &["rclone"],
        is_ours: false,
        keeps: Keeps::InSink,
        command: rclone_copy,
    },
    Contender {
        name: "yt-dlp | s5cmd pipe, best layer",
        needs: &["yt-dlp", "s5cmd"],
        is_ours: false,
        keeps: Keeps::InSink,
        command: |case| {
            piped(
                case,
                "yt-dlp -q --no-warnings --ignore-config -N 8 -f b -o - {url}",
            )
        },
    },
    Contender {
        name: "streamlink | s5cmd pipe, best layer",
        needs: &["streamlink", "s5cmd"],
        is_ours: false,
        keeps: Keeps::InSink,
        command: |case| {
            piped(
                case,
                "streamlink --quiet --no-config --stream-segment-threads 8 --stdout hls://{url} best",
            )
        },
    },
];

/// Bytes of segments: of all layers, or of the best.
pub(crate) fn bytes(is_best_alone: bool) -> u64 {
    let layers = &LAYERS[..if is_best_alone { 1 } else { LAYERS.len() }];
    layers.iter().map(|(_, _, size)| size * SEGMENTS).sum()
}

/// Makes the recording; its files by name, the master first.
pub(crate) fn add(stage: &Stage, prefix: &str) -> anyhow::Result<Vec<String>> {
    let root = stage.files();
    let mut noise = fastrand::Rng::with_seed(1);
    let mut master = "#EXTM3U\n#EXT-X-VERSION:3\n".to_owned();
    let mut names = vec![format!("{prefix}/master.m3u8")];
    for (layer, bandwidth, size) in LAYERS {
        let folder = root.join(prefix).join(layer);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        master += &format!(
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},RESOLUTION={layer},CODECS=\"avc1.64001f,mp4a.40.2\"\n{layer}/index.m3u8\n"
        );
        let mut playlist = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{SECONDS}\n#EXT-X-PLAYLIST-TYPE:VOD\n"
        );
        names.push(format!("{prefix}/{layer}/index.m3u8"));
        for number in 0..SEGMENTS {
            let name = format!("{number:05}.ts");
            make_segment(&folder.join(&name), size, &mut noise)?;
            playlist += &format!("#EXTINF:{SECONDS}.0,\n{name}\n");
            names.push(format!("{prefix}/{layer}/{name}"));
        }
        fs::write(folder.join("index.m3u8"), playlist + "#EXT-X-ENDLIST\n")?;
    }
    fs::write(root.join(&names[0]), master)?;
    Ok(names)
}

/// Noise after a transport stream's first bytes.
fn make_segment(path: &Path, size: u64, noise: &mut fastrand::Rng) -> anyhow::Result<()> {
    let mut block = vec![0; usize::try_from(size)?];
    noise.fill(&mut block);
    block[..4].copy_from_slice(b"\x47\x40\x00\x10");
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&block)?;
    Ok(file.flush()?)
}

fn piped(case: &Case<'_>, fetch: &str) -> anyhow::Result<Option<Command>> {
    let url = format!("{}/{}", case.origin(), case.names[0]);
    let fetch = fetch.replace("{url}", &url);
    Ok(Some(case.shell(&format!(
        "{fetch} | s5cmd --log error --endpoint-url {} pipe s3://bench/best.ts",
        case.sink()
    ))))
}
