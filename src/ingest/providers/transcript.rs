//! A transcript that came as data becomes two files: the JSON as it is, and WebVTT made from the word times.
//!
//! Words are `{word, start, end}` in MeetingBaaS's events and `{text, start_time, end_time}` in its API;
//! times are seconds.

use std::rc::Rc;

use serde_json::Value;

use super::fields::Fields;
use crate::ingest::providers::artifact_list::{ArtifactList, File};
use crate::model::{Format, Kind};

/// A cue is closed when it would become longer than this, in characters: two lines on a screen.
const CUE_MAX_CHARS: usize = 84;

/// A cue is closed when it would last longer than this.
const CUE_MAX_SECONDS: f64 = 7.0;

/// A speaker's name is repeated with each cue: a longer one is cut.
const SPEAKER_MAX_CHARS: usize = 200;

/// Subtitles are shorter than the words with their times that they are made of. Some that would be longer than so many
/// times their JSON (and a little) are not made: the JSON holds all that they would.
const VTT_GROWTH_MAX: usize = 2;
const VTT_GROWTH_BYTES: usize = 64 * 1024;

/// A pause as long as this starts a new cue.
const PAUSE_SECONDS: f64 = 2.0;

/// Puts `transcript` on the shelf, each content a file of its own; an empty one is no file.
pub(super) fn put(transcript: Option<&Value>, shelf: &mut ArtifactList) {
    put_each(transcript, |content, file| shelf.put_inline(content, file));
}

/// Puts the transcript on the shelf of which `owner` has one only, however its words are called.
pub(super) fn put_only(owner: &str, transcript: Option<&Value>, shelf: &mut ArtifactList) {
    put_each(transcript, |content, file| {
        let identity = format!("{owner}:{}", file.name);
        shelf.put_inline_as(identity, content, file);
    });
}

fn put_each(transcript: Option<&Value>, mut put: impl FnMut(String, File)) {
    let Some(items) = transcript
        .and_then(Value::as_array)
        .filter(|items| !items.is_empty())
    else {
        return;
    };
    let Ok(json) = serde_json::to_string(items) else {
        return;
    };
    let vtt_max_bytes = json.len() * VTT_GROWTH_MAX + VTT_GROWTH_BYTES;
    put(
        json,
        File::new("transcript.json", Kind::Transcript, Format::Json),
    );
    let cues = cues(items);
    if let Some(vtt) = write_vtt(&cues, vtt_max_bytes) {
        let file = File::new("transcript.vtt", Kind::Transcript, Format::Vtt);
        put(vtt, file);
    }
}

/// What one speaker says without a pause.
#[derive(Clone, Debug, PartialEq)]
struct Cue {
    speaker: Option<Rc<str>>,
    start: f64,
    end: f64,
    text: String,
}

fn cues(items: &[Value]) -> Vec<Cue> {
    let mut cues = Vec::new();
    for item in items.iter().map(Fields::of) {
        let speaker = item.value("speaker").and_then(spoken);
        let speaker = speaker.map(|name| name.chars().take(SPEAKER_MAX_CHARS).collect::<String>());
        let speaker: Option<Rc<str>> = speaker.map(Rc::from);
        let words: Vec<Cue> = item
            .list("words")
            .filter_map(|word| piece(word, &speaker))
            .collect();
        if words.is_empty() {
            // Without word times, the whole item is one cue.
            cues.extend(piece(item, &speaker));
        } else {
            cues.extend(join(words));
        }
    }
    // WebVTT wants cues in order of their start; speakers may interrupt each other.
    cues.sort_by(|a, b| a.start.total_cmp(&b.start));
    cues
}

/// A word (or an item without words) as a cue of its own.
fn piece(word: Fields, speaker: &Option<Rc<str>>) -> Option<Cue> {
    let text = ["word", "text"]
        .iter()
        .find_map(|name| spoken(word.value(name)?))?;
    let time = |names: [&str; 2]| names.iter().find_map(|name| word.number(name));
    let start = time(["start", "start_time"])?.clamp(0.0, MAX_SECONDS);
    let end = time(["end", "end_time"])
        .unwrap_or(start)
        .clamp(start, MAX_SECONDS);
    Some(Cue {
        speaker: speaker.clone(),
        start,
        end,
        text,
    })
}

/// Times beyond this are no times: a thousand hours.
const MAX_SECONDS: f64 = 3_600_000.0;

/// What was said, exactly, but on one line: a blank line would end the cue.
fn spoken(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then_some(line)
}

fn join(words: Vec<Cue>) -> Vec<Cue> {
    let mut cues: Vec<Cue> = Vec::new();
    for word in words {
        match cues.last_mut() {
            Some(cue) if fits(cue, &word) => {
                cue.text.push(' ');
                cue.text.push_str(&word.text);
                cue.end = cue.end.max(word.end);
            }
            _ => cues.push(word),
        }
    }
    cues
}

fn fits(cue: &Cue, word: &Cue) -> bool {
    let is_short = cue.text.chars().count() + 1 + word.text.chars().count() <= CUE_MAX_CHARS;
    let is_forward = word.start >= cue.start;
    is_short
        && is_forward
        && word.end - cue.start <= CUE_MAX_SECONDS
        && word.start - cue.end < PAUSE_SECONDS
}

/// The subtitles; `None` when there are none, or they would be longer than `max_bytes`.
fn write_vtt(cues: &[Cue], max_bytes: usize) -> Option<String> {
    if cues.is_empty() {
        return None;
    }
    let mut vtt = String::from("WEBVTT\n");
    for cue in cues {
        let start = millis(cue.start);
        // A cue has to last.
        let end = millis(cue.end).max(start + 1);
        let text = escaped(&cue.text);
        let line = match &cue.speaker {
            Some(speaker) => format!("<v {}>{text}</v>", escaped(speaker)),
            None => text,
        };
        vtt.push_str(&format!("\n{} --> {}\n{line}\n", clock(start), clock(end)));
        if vtt.len() > max_bytes {
            return None;
        }
    }
    Some(vtt)
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

fn clock(millis: u64) -> String {
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    format!(
        "{:02}:{:02}:{seconds:02}.{millis:03}",
        minutes / 60,
        minutes % 60
    )
}

/// As WebVTT wants it; names and words come from meeting guests.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vtt(transcript: Value) -> Option<String> {
        let mut shelf = ArtifactList::default();
        put(Some(&transcript), &mut shelf);
        let artifacts = shelf.into_artifacts();
        let vtt = artifacts.into_iter().find(|a| a.format == Format::Vtt)?;
        match vtt.origin {
            crate::model::Origin::Inline(text) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn words_become_cues_with_their_speaker() {
        let transcript = json!([
            {"speaker": "Ada", "words": [
                {"word": "Good", "start": 1.25, "end": 1.5}, {"word": "morning", "start": 1.5, "end": 1.9}]},
            {"speaker": "Grace", "words": [{"text": "Hello", "start_time": 3725.0, "end_time": "3725.5"}]},
        ]);
        assert_eq!(
            vtt(transcript).unwrap(),
            "WEBVTT\n\n00:00:01.250 --> 00:00:01.900\n<v Ada>Good morning</v>\n\n\
             01:02:05.000 --> 01:02:05.500\n<v Grace>Hello</v>\n"
        );
    }

    #[test]
    fn what_a_guest_says_stays_text() {
        let transcript = json!([{"speaker": "<b>\nA & B", "words": [
            {"word": "x --> y\n\nNOTE <i>", "start": 0, "end": 0}]}]);
        assert_eq!(
            vtt(transcript).unwrap(),
            "WEBVTT\n\n00:00:00.000 --> 00:00:00.001\n<v &lt;b&gt; A &amp; B>x --&gt; y NOTE &lt;i&gt;</v>\n"
        );
    }

    #[test]
    fn long_speech_and_pauses_are_cut_and_interruptions_sorted() {
        let words: Vec<_> = (0..60)
            .map(|n| json!({"word": "something", "start": f64::from(n), "end": f64::from(n) + 0.9}))
            .collect();
        let interruption =
            json!({"speaker": "B", "words": [{"word": "no", "start": 2.5, "end": 2.6}]});
        let text = vtt(json!([{"speaker": "A", "words": words}, interruption])).unwrap();
        let starts: Vec<_> = text.lines().filter(|line| line.contains(" --> ")).collect();
        assert!(starts.len() > 8);
        assert!(starts.is_sorted(), "{text}");
        assert!(text.lines().all(|line| line.len() < 120));
    }

    // S1: the name of a speaker stands in each cue.
    #[test]
    fn a_transcript_can_not_grow_by_the_name_of_its_speaker() {
        let words: Vec<_> = (0..20_000)
            .map(|n| json!({"word": "a", "start": n * 10}))
            .collect();
        let long = "n".repeat(100_000);
        assert_eq!(vtt(json!([{"speaker": long, "words": words}])), None);
        let text = vtt(json!([{"speaker": long, "words": [{"word": "a", "start": 1}]}])).unwrap();
        assert!(text.len() < 300, "{} bytes", text.len());
    }

    #[test]
    fn odd_transcripts_lose_what_is_odd_and_nothing_else() {
        assert_eq!(vtt(json!([])), None);
        assert_eq!(vtt(json!("text")), None);
        assert_eq!(
            vtt(json!([{"speaker": "A", "words": [{"word": "x"}, null, 7]}])),
            None
        );
        let odd = json!([{"words": [{"word": "kept", "start": -1, "end": 1e300}, {"start": 1, "end": 2}]}]);
        assert_eq!(
            vtt(odd).unwrap(),
            "WEBVTT\n\n00:00:00.000 --> 1000:00:00.000\nkept\n"
        );
        let item = json!([{"speaker": "A", "text": "whole", "start_time": 1, "end_time": 2}]);
        assert_eq!(
            vtt(item).unwrap(),
            "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<v A>whole</v>\n"
        );
    }
}
