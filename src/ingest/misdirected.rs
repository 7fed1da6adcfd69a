//! Events that came to a source of another provider: whose they look like, and where they belong.

use super::{Adapter, Delivery, recognise};
use crate::model::{EventClass, Provider};

/// What to tell the operator about an event that `own`, the adapter of its source, can't make out; `None` when it looks
/// like nobody else's either. `sources` are all there are, by name.
pub fn advice<'a>(
    delivery: &Delivery<'_>,
    own: &Adapter,
    sources: impl Iterator<Item = (&'a str, &'a Adapter)>,
) -> Option<String> {
    let mut sources: Vec<_> = sources.collect();
    sources.sort_by_key(|(name, _)| *name);
    if let Some(provider) = recognise(delivery.body) {
        // The other two have the same shapes.
        let is_alike = own.provider() == provider
            || (own.provider() == Provider::RealtimeKit && provider == Provider::Dyte);
        if is_alike {
            return None;
        }
        let place = sources
            .iter()
            .find(|(_, adapter)| adapter.provider() == provider);
        return Some(match place {
            Some((name, _)) => format!("looks like {provider}; post it to /webhooks/{name}"),
            None => format!("looks like {provider}, of which there is no source; set one up"),
        });
    }
    let understands = |adapter: &Adapter| {
        let event = adapter.parse(delivery);
        event.is_ok_and(|event| event.class != EventClass::Unknown)
    };
    let place = sources.iter().find(|(_, adapter)| {
        let is_defined = matches!(adapter, Adapter::Custom(_));
        is_defined && adapter.provider() != own.provider() && understands(adapter)
    });
    place.map(|(name, adapter)| {
        format!(
            "looks like {}; post it to /webhooks/{name}",
            adapter.provider()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    const DAILY: &str = r#"{"version":"1.0.0","type":"recording.ready-to-download","id":"rec-1","payload":{"recording_id":"r"},"event_ts":1772447600}"#;

    fn of(body: &str, own: Provider, sources: &[(&str, Provider)]) -> Option<String> {
        let delivery = Delivery {
            body: body.as_bytes(),
            id_header: None,
            received_at: Timestamp::UNIX_EPOCH,
        };
        let sources: Vec<_> = sources
            .iter()
            .map(|(name, provider)| (*name, Adapter::BuiltIn(*provider)))
            .collect();
        let all = sources.iter().map(|(name, adapter)| (*name, adapter));
        advice(&delivery, &Adapter::BuiltIn(own), all)
    }

    // N3
    #[test]
    fn an_event_of_another_provider_is_told_where_it_belongs() {
        let both = [("eu", Provider::Daily), ("hms", Provider::Hms)];
        assert_eq!(
            of(DAILY, Provider::Hms, &both).unwrap(),
            "looks like daily; post it to /webhooks/eu"
        );
        assert!(
            of(DAILY, Provider::Hms, &both[1..])
                .unwrap()
                .contains("no source")
        );
        assert_eq!(of(DAILY, Provider::Daily, &both), None);
        assert_eq!(of("{}", Provider::Hms, &both), None);
        let shared = r#"{"event":"meeting.somethingNew","meeting":{"id":"m"}}"#;
        assert_eq!(of(shared, Provider::RealtimeKit, &both), None);
    }
}
