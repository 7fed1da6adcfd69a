//! What the demo says: what it is about to do, where everything landed, what was lost and why.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::judge::{self, LeftBehind};
use super::origin::DemoOrigin;
use super::stage::Stage;
use crate::app::ArchiveTarget;
use crate::cli::output::{CommandResult, Output};
use crate::model::{Kind, Record, State};
use crate::report::board::{self, Severity};
use crate::report::failure::{self, Group, ReportedLoss};
use crate::report::printable::printable;

pub(super) fn beginning(
    output: &Output,
    stage: &Stage,
    origin: &DemoOrigin,
    destination: &ArchiveTarget,
) {
    output.note(&format!("made-up providers at {}", origin.base_url()));
    output.note(&format!("webhooks at http://{}", stage.address()));
    output.note(&format!("archive: {}", destination.description));
}

pub(super) fn outcome(
    output: &mut Output,
    seen: &LeftBehind,
    wrong: &[String],
    folder: &Path,
) -> CommandResult {
    let groups = losses(seen);
    if output.is_json {
        let archived: Vec<_> = seen.records.iter().filter(is_archived).collect();
        return output.json(&json!({
            "is_as_expected": wrong.is_empty(),
            "wrong": wrong,
            "folder": folder,
            "archived": archived,
            "losses": groups,
        }));
    }
    landed(output, &seen.records)?;
    for group in &groups {
        lost(output, group)?;
    }
    verdict(output, seen, &groups, wrong, folder)
}

fn is_archived(record: &&Record) -> bool {
    record.state == State::Archived
}

fn landed(output: &mut Output, records: &[Record]) -> CommandResult {
    output.line("\nWhere everything landed (with each its event and manifest.json):")?;
    let mut folders: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    let is_file = |record: &&Record| is_archived(record) && record.kind != Kind::Event;
    for record in records.iter().filter(is_file) {
        folders
            .entry(judge::folder(record))
            .or_default()
            .push(record);
    }
    for (folder, records) in folders {
        output.line(&format!("  {}/", printable(folder)))?;
        for record in records {
            let name = record.key.rsplit('/').next().unwrap_or_default();
            let size = board::bytes(record.size_bytes.unwrap_or_default());
            let line = format!("    {size:>10}  {}", printable(name));
            output.toned(Severity::Good, &line)?;
        }
    }
    Ok(())
}

fn losses(seen: &LeftBehind) -> Vec<Group> {
    let is_lost = |record: &&Record| record.state != State::Archived;
    let records = seen.records.iter().filter(is_lost).cloned().collect();
    let losses = seen.losses.iter().cloned().map(|loss| ReportedLoss {
        failure: loss.failure,
        recording: loss.recording,
    });
    failure::group(records, losses.collect(), Vec::new())
}

fn lost(output: &mut Output, group: &Group) -> CommandResult {
    output.toned(
        Severity::Bad,
        &format!("\nLost: {} ({})", group.class, group.count),
    )?;
    output.toned(Severity::Warning, &format!("  {}", group.action))?;
    for record in &group.artifacts {
        let message = record.message.as_deref().unwrap_or_default();
        let label = board::label(record);
        output.line(&format!("    {label}: {}", printable(message)))?;
    }
    for loss in &group.provider_failures {
        let failure = &loss.failure;
        let words = failure::words(failure.code.as_deref(), &failure.message);
        let source = printable(&loss.recording.source);
        output.line(&format!("    {source}: {}", printable(&words)))?;
    }
    Ok(())
}

fn verdict(
    output: &mut Output,
    seen: &LeftBehind,
    groups: &[Group],
    wrong: &[String],
    folder: &Path,
) -> CommandResult {
    let archived = seen.records.iter().filter(is_archived).count();
    let lost: usize = groups.iter().map(|group| group.count).sum();
    let bytes: usize = seen.objects.values().map(bytes::Bytes::len).sum();
    output.line(&format!(
        "\n{} events, {archived} artifacts archived, {lost} losses reported; {} objects ({}) read back and compared.",
        seen.events.len(),
        seen.objects.len(),
        board::bytes(bytes as u64),
    ))?;
    output.line(&format!(
        "The archive's files are in {}.",
        folder.join("s3").display()
    ))?;
    if wrong.is_empty() {
        return output.toned(
            Severity::Good,
            "All that should have been archived was, and every loss is one that was meant to be.",
        );
    }
    output.toned(Severity::Bad, "Not as it should be:")?;
    for complaint in wrong {
        output.toned(Severity::Bad, &format!("  {}", printable(complaint)))?;
    }
    Ok(())
}
