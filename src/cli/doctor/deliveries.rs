//! The configuration as `run` will look at it: whether it can tell of each delivery who sent it.
//!
//! A configuration that can't be read ends every command before this one begins.

use super::super::{CommandContext, senders};
use super::checkup::Checkup;
use crate::config::{Config, SourceConfig};
use crate::ingest::signature::SenderCheck;
use crate::model::Provider;
use crate::server::admin::Admin;

pub(super) async fn examine(context: &CommandContext, checkup: &mut Checkup) {
    let config = &context.config;
    let mut is_sound = true;
    if let Err(error) = Admin::check(config.admin.listen, config.admin.token.as_ref()) {
        is_sound = false;
        checkup.misconfigured("admin", &error);
    }
    let may_be_open = senders::may_be_open(config);
    let mut sources: Vec<_> = config.resolved_sources().into_iter().collect();
    sources.sort_by(|one, other| one.0.cmp(&other.0));
    let mut checks = Vec::new();
    for (name, (provider, source)) in sources {
        match senders::check(&name, provider, &source, may_be_open) {
            Ok(check) => checks.push((name, provider, source, check)),
            Err(error) => {
                is_sound = false;
                checkup.misconfigured(format!("sources.{name}.senders"), &error);
            }
        }
    }
    if is_sound {
        configuration(config, checkup);
    }
    for (name, provider, source, check) in &checks {
        // Without any configuration every provider is a source; only what was set up is judged.
        if config.sources.contains_key(name) {
            trust(context, name, *provider, source, check, checkup).await;
        }
    }
}

fn configuration(config: &Config, checkup: &mut Checkup) {
    match config.sources.len() {
        0 => checkup.warn(
            "configuration",
            "it is sound; no source is set, so that programs on this machine can post every provider's events without a secret",
            "add [sources.NAME] with secrets and api_key for each provider that you use",
        ),
        count => checkup.good(
            "configuration",
            format!("it is sound, with {count} {}", plural(count, "source")),
        ),
    }
}

fn plural(count: usize, noun: &str) -> String {
    match count {
        1 => noun.to_owned(),
        _ => format!("{noun}s"),
    }
}

/// Whether anyone could post events, and whether the key to check them with can be had.
async fn trust(
    context: &CommandContext,
    name: &str,
    provider: Provider,
    source: &SourceConfig,
    check: &SenderCheck,
    checkup: &mut Checkup,
) {
    let line = format!("sources.{name}.senders");
    if check.is_open() && source.allow_senders.is_empty() {
        let fix = match provider {
            Provider::Dyte | Provider::RealtimeKit => {
                format!("set sources.{name}.public_key = \"well-known\"")
            }
            _ => format!("set sources.{name}.secrets"),
        };
        let message = "there is no secret: whoever reaches the listener can post events to it";
        checkup.warn(line, message, fix);
        return;
    }
    let Some(url) = check.key_url() else { return };
    match senders::try_keys(&context.config, &context.clock, url).await {
        Ok(()) => checkup.good(line, format!("the public key of {provider} can be fetched")),
        Err(error) => checkup.fault(
            line,
            &error,
            format!(
                "let this machine reach the address (its deliveries are answered 503 until then), or set \
                 sources.{name}.public_key to the key itself"
            ),
        ),
    }
}
