//! What may be fetched: schemes, hosts and addresses. Pure: no DNS, no clock.
//!
//! The guard judges twice. [`Guard::judge_url`] sees the URL before a request and before each
//! redirect; [`Guard::judge_address`] sees every address that DNS gives, inside the resolver that the
//! connection uses, so that the address that was checked is the one connected to. Only the parsed
//! form of a URL counts, and a URL whose parsed form would be sent differently from the received
//! text is refused: its signature would not hold.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use url::{Host, Url};

use super::own_store::OwnStore;
use crate::error::{Class, Error, Result};
use crate::signed_url;

/// What the operator allows beyond the public internet over https.
#[derive(Clone, Debug, Default)]
pub struct GuardSettings {
    /// Networks that may be reached although they are not public.
    pub allow_networks: Vec<IpNet>,
    /// Whether plain http is allowed.
    pub allow_http: bool,
    /// Our own listeners and object store: never an origin, also where loopback is allowed.
    pub forbidden: Vec<SocketAddr>,
}

/// The judge.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    settings: GuardSettings,
    own_store: Option<OwnStore>,
}

impl Guard {
    /// A guard with these exceptions.
    pub fn new(settings: GuardSettings) -> Guard {
        Guard {
            settings,
            own_store: None,
        }
    }

    /// Also refuses our own object store, by its names and, where only our network reaches it, by its addresses.
    #[must_use]
    pub fn with_own_store(mut self, store: OwnStore) -> Guard {
        self.settings.forbidden.extend(store.addresses());
        self.own_store = Some(store);
        self
    }

    /// The URL `url`, if it may be asked. `allow_hosts` (`example.com`, `*.example.com`) narrows the hosts;
    /// empty means any. A name's addresses are judged later, when it is resolved.
    ///
    /// # Errors
    /// `refused`, with the reason in words and without the URL's query.
    pub fn judge_url(&self, url: &str, allow_hosts: &[String]) -> Result<Url> {
        let parsed = Url::parse(url).map_err(|e| refused(format!("the URL can't be read: {e}")))?;
        match parsed.scheme() {
            "https" => {}
            "http" if self.settings.allow_http => {}
            "http" => {
                return Err(refused(
                    "plain http is not allowed (guard.allow_http would allow it)",
                ));
            }
            other => return Err(refused(format!("scheme `{other}` is not http or https"))),
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(refused("the URL carries user info"));
        }
        if !is_sent_unchanged(url, &parsed) {
            return Err(refused(
                "the URL's path or query holds dot segments or raw characters that would be rewritten \
                 before sending, which breaks its signature",
            ));
        }
        let Some(host) = parsed.host() else {
            return Err(refused("the URL names no host"));
        };
        if !allow_hosts.is_empty() && !is_listed(&host, allow_hosts) {
            return Err(refused(format!(
                "host {host} is not among the source's allow_hosts"
            )));
        }
        signed_url::check_place(&parsed)
            .map_err(|why| refused(format!("the URL can't be asked: {why}")))?;
        if let Some(store) = &self.own_store
            && store.is_named_by(&parsed)
        {
            return Err(refused(format!("{host} is the archive's own object store")));
        }
        let port = parsed.port_or_known_default().unwrap_or_default();
        let address = match host {
            Host::Ipv4(v4) => IpAddr::V4(v4),
            Host::Ipv6(v6) => IpAddr::V6(v6),
            Host::Domain(name) if is_localhost(name) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Host::Domain(_) => return Ok(parsed),
        };
        self.judge_address(address)
            .map_err(|reason| refused(format!("{host} is {reason}")))?;
        if self.is_own_listener(address, port) {
            return Err(refused(format!(
                "{host}:{port} is the harvester's own listener or object store"
            )));
        }
        Ok(parsed)
    }

    /// Whether a connection to `address` may be made.
    ///
    /// # Errors
    /// The reason, such as `a private address`, which fits after "it is".
    pub fn judge_address(&self, address: IpAddr) -> Result<(), &'static str> {
        let address = plain(address);
        if self
            .settings
            .allow_networks
            .iter()
            .any(|network| network.contains(&address))
        {
            return Ok(());
        }
        match address {
            IpAddr::V4(v4) => judge_v4(v4),
            IpAddr::V6(v6) => judge_v6(v6),
        }
    }

    /// Whether one of our own listeners may be behind this port: then names need a closer look,
    /// since a resolver does not know the port.
    pub fn is_own_port(&self, port: u16) -> bool {
        self.settings
            .forbidden
            .iter()
            .any(|listener| listener.port() == port)
    }

    /// Whether one of our own listeners may answer at `address`, whatever the port.
    pub fn is_own_address(&self, address: IpAddr) -> bool {
        self.settings
            .forbidden
            .iter()
            .any(|listener| answers(*listener, address))
    }

    fn is_own_listener(&self, address: IpAddr, port: u16) -> bool {
        self.settings
            .forbidden
            .iter()
            .any(|listener| listener.port() == port && answers(*listener, address))
    }
}

/// Whether everybody can reach `address`.
pub fn is_public(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(v4) => judge_v4(v4).is_ok(),
        IpAddr::V6(v6) => judge_v6(v6).is_ok(),
    }
}

/// Whether what listens at `listener` may be reached through `address`. A listener on all interfaces
/// may have any address that is not public.
fn answers(listener: SocketAddr, address: IpAddr) -> bool {
    let address = plain(address);
    let ours = plain(listener.ip());
    if address == ours || address.is_unspecified() {
        return true;
    }
    ours.is_unspecified() && !is_public(address)
}

fn refused(reason: impl Into<String>) -> Error {
    Error::new(Class::Refused, reason)
}

/// Whether path and query of the parsed URL are, byte for byte, those of the text. Harmless
/// differences (case of scheme and host, a default port, a missing `/`, a fragment) lie outside them.
fn is_sent_unchanged(text: &str, parsed: &Url) -> bool {
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let tail = rest.find(['/', '?', '\\']).map_or("", |at| &rest[at..]);
    let received = if tail.starts_with('/') {
        tail.to_owned()
    } else {
        format!("/{tail}")
    };
    let query = parsed.query().map(|query| format!("?{query}"));
    received == format!("{}{}", parsed.path(), query.unwrap_or_default())
}

fn is_listed(host: &Host<&str>, allow_hosts: &[String]) -> bool {
    let host = host.to_string().to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    allow_hosts.iter().any(|entry| {
        let entry = entry.trim_end_matches('.').to_ascii_lowercase();
        match entry.strip_prefix("*.") {
            Some(parent) => host
                .strip_suffix(parent)
                .is_some_and(|front| front.ends_with('.') && front.len() > 1),
            None => host == entry,
        }
    })
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// An IPv4 address in IPv6 clothes (`::ffff:a.b.c.d`) is the IPv4 address that is connected to.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 => v4,
    }
}

/// What is not globally reachable in IPv4 (IANA special-purpose registry), and what looks public and is not.
const NOT_PUBLIC_V4: [([u8; 4], u32, &str); 17] = [
    ([0, 0, 0, 0], 8, "an address of this network"),
    ([10, 0, 0, 0], 8, "a private address"),
    ([100, 64, 0, 0], 10, "a carrier's shared address"),
    ([127, 0, 0, 0], 8, "a loopback address"),
    ([168, 63, 129, 16], 32, "a cloud metadata address"),
    (
        [169, 254, 0, 0],
        16,
        "a link-local or cloud metadata address",
    ),
    ([172, 16, 0, 0], 12, "a private address"),
    ([192, 0, 0, 0], 24, "a protocol assignment"),
    ([192, 0, 2, 0], 24, "a documentation address"),
    ([192, 31, 196, 0], 24, "a special-purpose address"),
    ([192, 88, 99, 0], 24, "a 6to4 relay address"),
    ([192, 168, 0, 0], 16, "a private address"),
    ([198, 18, 0, 0], 15, "a benchmarking address"),
    ([198, 51, 100, 0], 24, "a documentation address"),
    ([203, 0, 113, 0], 24, "a documentation address"),
    ([224, 0, 0, 0], 4, "a multicast address"),
    ([240, 0, 0, 0], 4, "a reserved or broadcast address"),
];

fn judge_v4(address: Ipv4Addr) -> Result<(), &'static str> {
    let bits = u32::from(address);
    let found = NOT_PUBLIC_V4.iter().find(|(network, prefix, _)| {
        let mask = u32::MAX << (32 - prefix);
        bits & mask == u32::from(Ipv4Addr::from(*network))
    });
    found.map_or(Ok(()), |(_, _, reason)| Err(*reason))
}

/// Global unicast is 2000::/3; what is not public inside it is listed, all outside it is refused,
/// but for NAT64, where the IPv4 address inside decides.
fn judge_v6(address: Ipv6Addr) -> Result<(), &'static str> {
    let s = address.segments();
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [.., a, b, c, d] = address.octets();
        return judge_v4(Ipv4Addr::new(a, b, c, d));
    }
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => Err("the unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Err("a loopback address"),
        [0xfc00..=0xfdff, ..] => Err("a private address"),
        [0xfe80..=0xfebf, ..] => Err("a link-local address"),
        [0xff00..=0xffff, ..] => Err("a multicast address"),
        [0x2001, 0, ..] => Err("a Teredo tunnel address"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Err("a documentation address"),
        [0x2001, 0..=0x01ff, ..] => Err("a protocol assignment"),
        [0x2002, ..] => Err("a 6to4 tunnel address"),
        [0x2000..=0x3fff, ..] => Ok(()),
        _ => Err("not a public address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict() -> Guard {
        Guard::default()
    }

    fn loopback_allowed(forbidden: &[&str]) -> Guard {
        Guard::new(GuardSettings {
            allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
            allow_http: true,
            forbidden: forbidden.iter().map(|a| a.parse().unwrap()).collect(),
        })
    }

    fn verdict(guard: &Guard, url: &str) -> String {
        match guard.judge_url(url, &[]) {
            Ok(_) => "allowed".to_owned(),
            Err(error) => {
                assert_eq!(error.class(), Class::Refused);
                error.to_string()
            }
        }
    }

    #[test]
    fn every_spelling_of_a_private_address_is_refused() {
        let urls = [
            "https://127.0.0.1/a",
            "https://127.1/a",
            "https://2130706433/a",
            "https://0x7f000001/a",
            "https://0177.0.0.1/a",
            "https://127.0.0.1./a",
            "https://１２７.０.０.１/a",
            "https://%31%32%37.0.0.1/a",
            "https://[::1]/a",
            "https://[::]/a",
            "https://[::ffff:127.0.0.1]/a",
            "https://[::ffff:7f00:1]/a",
            "https://[::127.0.0.1]/a",
            "https://[64:ff9b::10.0.0.1]/a",
            "https://[64:ff9b:1::10.0.0.1]/a",
            "https://[2002:7f00:1::]/a",
            "https://[2001:0:4136:e378::]/a",
            "https://[fd00:ec2::254]/latest",
            "https://[fe80::1]/a",
            "https://[2001:db8::1]/a",
            "https://[ff02::1]/a",
            "https://169.254.169.254/latest/meta-data",
            "https://168.63.129.16/a",
            "https://100.100.100.200/a",
            "https://0.0.0.0/a",
            "https://10.1.2.3/a",
            "https://172.31.0.1/a",
            "https://192.168.1.1/a",
            "https://198.18.0.1/a",
            "https://203.0.113.9/a",
            "https://224.0.0.1/a",
            "https://255.255.255.255/a",
            "https://localhost/a",
            "https://LOCALHOST./a",
            "https://printer.localhost/a",
        ];
        for url in urls {
            assert!(verdict(&strict(), url).contains(" is "), "{url}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for url in [
            "https://example.com/a?X-Amz-Signature=1",
            "https://EXAMPLE.com:443",
            "https://example.com?x=1",
            "https://8.8.8.8/a",
            "https://172.32.0.1/a",
            "https://[2606:4700::1111]/a",
            "https://[64:ff9b::8.8.8.8]/a",
            "https://example.com/a%20b/%2F?q=%27#t=3",
        ] {
            assert_eq!(verdict(&strict(), url), "allowed", "{url}");
        }
    }

    #[test]
    fn schemes_user_info_and_missing_hosts_are_refused() {
        for (url, reason) in [
            ("http://example.com/a", "plain http"),
            ("file:///etc/passwd", "scheme `file`"),
            ("data:text/plain,x", "scheme `data`"),
            ("https://me@example.com/a", "user info"),
            ("https://example.com\\@127.0.0.1/a", "rewritten"),
            ("https://", "can't be read"),
            ("recording.mp4", "can't be read"),
            // D8
            ("https://example.com:0/a", "port is 0"),
            ("https://8.8.8.8:0/a", "port is 0"),
        ] {
            let said = verdict(&strict(), url);
            assert!(said.contains(reason), "{url}: {said}");
        }
        assert_eq!(
            verdict(&loopback_allowed(&[]), "http://example.com/a"),
            "allowed"
        );
    }

    #[test]
    fn a_url_that_would_be_rewritten_is_refused_and_its_query_not_shown() {
        for url in [
            "https://example.com/a/../b?sig=SECRET",
            "https://example.com/a/%2e%2e/b?sig=SECRET",
            "https://example.com/a b?sig=SECRET",
            "https://example.com/ä?sig=SECRET",
            "https://example.com/a?sig=SECRET\"",
            "https://example.com/a?sig=SEC RET",
            " https://example.com/ä?sig=SECRET",
            "https:/example.com/a?sig=SECRET",
        ] {
            let said = verdict(&strict(), url);
            assert!(said.contains("rewritten"), "{url}: {said}");
            assert!(!said.contains("SECRET"));
        }
    }

    #[test]
    fn allowed_hosts_are_exact_or_one_wildcard() {
        let hosts = ["example.com".to_owned(), "*.cdn.example.net".to_owned()];
        let is_allowed = |url: &str| strict().judge_url(url, &hosts).is_ok();
        assert!(is_allowed("https://example.com/a"));
        assert!(is_allowed("https://EXAMPLE.com./a"));
        assert!(is_allowed("https://x.y.cdn.example.net/a"));
        assert!(!is_allowed("https://cdn.example.net/a"));
        assert!(!is_allowed("https://evilcdn.example.net/a"));
        assert!(!is_allowed("https://www.example.com/a"));
        assert!(!is_allowed("https://example.com.evil.org/a"));
        assert!(!is_allowed("https://8.8.8.8/a"));
    }

    #[test]
    fn our_own_listeners_are_no_origins() {
        let guard = loopback_allowed(&["127.0.0.1:8081", "0.0.0.0:8080"]);
        assert_eq!(verdict(&guard, "http://127.0.0.1:9000/a"), "allowed");
        for url in [
            "http://127.0.0.1:8081/a",
            "http://localhost:8081/a",
            "http://[::ffff:127.0.0.1]:8081/a",
            "http://127.0.0.1:8080/a",
            "http://127.8.8.8:8080/a",
        ] {
            assert!(verdict(&guard, url).contains("own listener"), "{url}");
        }
        assert!(guard.is_own_port(8081));
        assert!(!guard.is_own_port(9000));
    }

    #[test]
    fn an_allowed_network_opens_only_itself() {
        let guard = loopback_allowed(&[]);
        assert!(guard.judge_address("127.0.0.9".parse().unwrap()).is_ok());
        assert!(
            guard
                .judge_address("::ffff:127.0.0.9".parse().unwrap())
                .is_ok()
        );
        assert!(guard.judge_address("::1".parse().unwrap()).is_err());
        assert!(guard.judge_address("10.0.0.1".parse().unwrap()).is_err());
    }
}
