//! Sources that nothing proves a sender to: whose requests they take all the same.
//!
//! Loopback is no authentication: a proxy on this machine hands on what the internet sends, and any page in a browser
//! here can post. Both show themselves in the headers.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Presented, SenderRefusal};

/// Who may post to a source without secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Openness {
    /// Programs of this machine: nothing was configured.
    #[default]
    Local,
    /// Everybody but pages in browsers: the configuration says `insecure`.
    Everybody,
}

/// What a proxy adds, besides everything that begins with `x-forwarded-`.
const PROXY_HEADERS: [&str; 3] = ["forwarded", "x-real-ip", "via"];

/// What a browser adds to a request of a page.
const BROWSER_HEADERS: [&str; 2] = ["origin", "sec-fetch-site"];

impl Openness {
    /// Whether such a request is taken.
    ///
    /// # Errors
    /// `Browser` and `Proxied`, by what the request shows.
    pub(super) fn check(self, presented: &Presented<'_>) -> Result<(), SenderRefusal> {
        let is_any =
            |names: &[&str], name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
        let mut names = presented.headers.iter().map(|(name, _)| *name);
        if names.clone().any(|name| is_any(&BROWSER_HEADERS, name)) {
            return Err(SenderRefusal::Browser);
        }
        if self == Openness::Everybody {
            return Ok(());
        }
        let is_forwarded = |name: &str| {
            let beginning = name.as_bytes().get(.."x-forwarded-".len());
            beginning.is_some_and(|text| text.eq_ignore_ascii_case(b"x-forwarded-"))
        };
        let is_proxied = names.any(|name| is_any(&PROXY_HEADERS, name) || is_forwarded(name));
        let host = presented.one_text("host").unwrap_or_default();
        match is_proxied || !is_loopback_host(host) {
            true => Err(SenderRefusal::Proxied),
            false => Ok(()),
        }
    }
}

/// Whether a `Host` names this machine by an address or name that leads nowhere else.
fn is_loopback_host(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest
            .split_once(']')
            .and_then(|(ip, _)| ip.parse::<Ipv6Addr>().ok());
        return address.is_some_and(|ip| ip.is_loopback());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let address = name.parse::<Ipv4Addr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(open: Openness, headers: &[(&str, &[u8])]) -> Result<(), SenderRefusal> {
        open.check(&Presented {
            headers,
            peer: None,
            now: jiff::Timestamp::UNIX_EPOCH,
        })
    }

    // S2: what came through a proxy on the same machine, or from a page, was taken for this machine's.
    #[test]
    fn proxies_and_browsers_show_themselves() {
        let local: (&str, &[u8]) = ("host", b"127.0.0.1:8080");
        assert_eq!(judge(Openness::Local, &[local]), Ok(()));
        for (name, refusal) in [
            ("Forwarded", SenderRefusal::Proxied),
            ("X-Forwarded-For", SenderRefusal::Proxied),
            ("x-forwarded-proto", SenderRefusal::Proxied),
            ("X-Real-IP", SenderRefusal::Proxied),
            ("Via", SenderRefusal::Proxied),
            ("Origin", SenderRefusal::Browser),
            ("Sec-Fetch-Site", SenderRefusal::Browser),
        ] {
            let headers = [local, (name, b"x".as_slice())];
            assert_eq!(judge(Openness::Local, &headers), Err(refusal), "{name}");
            let insecure = judge(Openness::Everybody, &headers);
            assert_eq!(
                insecure.is_err(),
                refusal == SenderRefusal::Browser,
                "{name}"
            );
        }
    }

    #[test]
    fn only_loopback_names_are_this_machine() {
        for (host, is_ours) in [
            ("localhost", true),
            ("LocalHost:8080", true),
            ("127.8.9.1:80", true),
            ("[::1]:8080", true),
            ("", false),
            ("harvester.example:8080", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("192.0.2.1", false),
            ("[2001:db8::1]:80", false),
            ("::1", false),
        ] {
            let headers: [(&str, &[u8]); 1] = [("host", host.as_bytes())];
            assert_eq!(judge(Openness::Local, &headers).is_ok(), is_ours, "{host}");
        }
        let twice: [(&str, &[u8]); 2] = [("host", b"localhost"), ("host", b"evil.example")];
        assert_eq!(judge(Openness::Local, &twice), Err(SenderRefusal::Proxied));
    }
}
