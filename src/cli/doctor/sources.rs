//! The sources: whether each provider's API takes our credentials, what time it is there, whether it still sends.

use std::sync::Arc;

use super::checkup::Checkup;
use crate::app;
use crate::cli::CommandContext;
use crate::error::{Class, Error};
use crate::ingest::hooks::HookState;
use crate::ingest::list;
use crate::model::{Layout, Provider};
use crate::source::Source;
use crate::worker::scan::{ScannedSource, Walker};

pub(super) async fn examine(
    context: &CommandContext,
    source: Arc<dyn Source>,
    checkup: &mut Checkup,
) {
    let config = &context.config;
    if config.sources.is_empty() {
        return;
    }
    let layout = match Layout::new(&config.archive.prefix, &config.archive.template) {
        Ok(layout) => layout,
        Err(error) => return checkup.fault("configuration", &error, "correct archive.template"),
    };
    if let Some((one, other)) = config.sources_in_one_folder() {
        checkup.warn(
            "archive.template",
            format!("recordings of sources {one} and {other} may come into one folder, where each can put files beside the other's"),
            "put {source} into archive.template; recordings that have a folder keep it",
        );
    }
    let walker = Walker {
        store: None,
        source,
        clock: Arc::clone(&context.clock),
        layout,
    };
    let mut subjects: Vec<_> = app::subjects(config).into_values().collect();
    subjects.sort_by(|one, other| one.name.cmp(&other.name));
    for subject in &subjects {
        examine_one(&walker, subject, checkup).await;
    }
}

async fn examine_one(walker: &Walker, subject: &ScannedSource, checkup: &mut Checkup) {
    let name = &subject.name;
    let check = format!("sources.{name}");
    if list::lists(subject.provider).is_empty() {
        return without_api(subject, &check, checkup);
    }
    if subject.access.credentials.api_key.is_none() {
        return without_key(subject, &check, checkup);
    }
    match walker.probe(subject).await {
        Ok(theirs) => {
            let provider = subject.provider;
            checkup.good(&*check, format!("{provider} takes the credentials"));
            let whose = provider.to_string();
            checkup.clock(format!("{check}.clock"), &whose, theirs, walker.clock.now());
        }
        Err(error) => {
            let mut advice = advice(&error, name);
            let is_denied = error.class() == Class::Denied;
            if is_denied && subject.provider == Provider::MeetingBaas {
                // It starts bots, and is refused every list.
                advice.push_str(
                    ". A key of the type \"Sending Access\" can't read: make one with full access",
                );
            }
            checkup.fault(&*check, &error, advice);
            return;
        }
    }
    hooks(walker, subject, &check, checkup).await;
}

/// A provider that the configuration defines: its deliveries are all that there is of it.
fn without_api(subject: &ScannedSource, check: &str, checkup: &mut Checkup) {
    let (name, provider) = (&subject.name, subject.provider);
    match subject.access.credentials.api_key {
        Some(_) => checkup.warn(
            check,
            format!("{provider} is defined by its events alone: there is an api_key, and no API that it is for"),
            format!("remove sources.{name}.api_key"),
        ),
        None => checkup.good(
            check,
            format!("{provider} is defined by its events alone: it has no API to be asked, so a missed event stays missed"),
        ),
    }
}

fn without_key(subject: &ScannedSource, check: &str, checkup: &mut Checkup) {
    let name = &subject.name;
    let fix = format!("set sources.{name}.api_key");
    match subject.provider {
        Provider::Daily => checkup.bad(
            check,
            "there is no api_key, and Daily's events hold no URLs: nothing of it can be archived",
            fix,
        ),
        provider => checkup.warn(
            check,
            format!("there is no api_key: {provider} can't be asked for fresh URLs or for what was missed"),
            fix,
        ),
    }
}

fn advice(error: &Error, name: &str) -> String {
    match error.class() {
        Class::Denied => {
            format!("set or correct sources.{name}.api_key (and api_secret, where there is one)")
        }
        Class::Refused => {
            format!("check sources.{name}.base_url; [guard] says what may be reached")
        }
        Class::Throttled => format!("wait, and lower sources.{name}.api_rate"),
        Class::Unreachable => {
            format!("check the network, the provider's status page and sources.{name}.base_url")
        }
        _ => format!("check sources.{name}.base_url and sources.{name}.provider"),
    }
}

async fn hooks(walker: &Walker, subject: &ScannedSource, check: &str, checkup: &mut Checkup) {
    let name = &subject.name;
    let check = format!("{check}.webhook");
    let hooks = match walker.hooks(subject).await {
        Ok(Some(hooks)) => hooks,
        Ok(None) => return,
        Err(error) => return checkup.fault(check, &error, advice(&error, name)),
    };
    let provider = subject.provider;
    if hooks.is_empty() {
        checkup.warn(
            check,
            format!("{provider} has no webhook registered and sends nothing"),
            format!("register one that leads to /webhooks/{name}, or set sources.{name}.reconcile"),
        );
        return;
    }
    if !hooks.iter().any(|hook| hook.leads_to(name)) {
        checkup.warn(
            &*check,
            format!("none of {provider}'s webhooks leads to /webhooks/{name}"),
            format!("register one that does, or set sources.{name}.reconcile"),
        );
    }
    for hook in hooks {
        let url = &hook.shown_url;
        match hook.state {
            HookState::Failed if !hook.leads_to(name) => checkup.warn(
                &*check,
                format!("{provider} has switched off the webhook to {url}, which is not that of this source"),
                "ask whoever it belongs to: the harvester leaves it as it is",
            ),
            HookState::Active => checkup.good(&*check, format!("{provider} sends to {url}")),
            HookState::Failed => checkup.bad(
                &*check,
                format!("{provider} has switched off the webhook to {url} after failures"),
                format!(
                    "make it answer 200, set sources.{name}.reactivate_webhook = true with reconcile (or switch it on \
                     there), then run `harvester backfill {name} --since 7d`"
                ),
            ),
            HookState::Other => checkup.warn(
                &*check,
                format!("the webhook to {url} is not active"),
                "switch it on at the provider",
            ),
        }
    }
}
