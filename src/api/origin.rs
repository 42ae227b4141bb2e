//! From where a request comes: the page (`Origin`) and the machine (address), with a proxy's word
//! only where the proxy is trusted.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, header};
use ipnet::IpNet;

/// Origins whose pages may use the hub as its own pages may.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// From normalised origins: lower case, without a path.
    pub fn new(origins: Vec<String>) -> Self {
        Self(origins)
    }

    /// Whether a page of this origin may use the hub, whatever address it was asked by.
    pub fn lists(&self, origin: &str) -> bool {
        self.0.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
    }

    /// For CORS.
    pub fn headers(&self) -> Vec<HeaderValue> {
        self.0.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect()
    }
}

/// Reverse proxies that are believed.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// These networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a peer's forwarding headers count.
    pub fn trust(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }

    /// The client's address: the peer's, or what trusted proxies say, from the nearest outwards.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let chain: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        for hop in chain.into_iter().rev() {
            if !self.trust(client) {
                break;
            }
            match address(hop.trim()) {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }

    /// Whether the client's connection was TLS, by a trusted proxy's word.
    pub fn says_https(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        self.trust(peer)
            && first(headers, "x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    }
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn address(hop: &str) -> Option<IpAddr> {
    let alone = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let with_port = || hop.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    alone.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

/// Whether a page may open a socket here, or sign in: no page at all, a page of the very host that
/// was asked (or that a trusted proxy was asked by), or a page of a listed origin.
pub fn admits(origins: &Origins, proxies: &Proxies, peer: IpAddr, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if origins.lists(origin) {
        return true;
    }
    let Some((scheme, page)) = origin.split_once("://") else { return false };
    let same = |host: &str| {
        !host.is_empty() && without_default_port(scheme, page).eq_ignore_ascii_case(without_default_port(scheme, host))
    };
    let direct = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if direct.is_some_and(|host| same(host.trim())) {
        return true;
    }
    proxies.trust(peer) && first(headers, "x-forwarded-host").is_some_and(same)
}

/// The first value of a header that may be a list.
fn first<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()?.split(',').next().map(str::trim)
}

fn without_default_port<'h>(scheme: &str, host: &'h str) -> &'h str {
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("a value"));
        }
        map
    }

    fn proxies() -> Proxies {
        Proxies::new(["127.0.0.1/32", "10.0.0.0/8", "::1/128"].map(|n| n.parse().expect("a network")).to_vec())
    }

    /// The cases of spec/behaviour-cases.md §13.5.
    #[test]
    fn proxies_may_write_an_address_with_its_port() {
        let is = |hop: &str, wanted: &str| assert_eq!(address(hop), wanted.parse().ok(), "{hop}");
        is("203.0.113.7", "203.0.113.7");
        is("203.0.113.7:4711", "203.0.113.7");
        is("[2001:db8::1]", "2001:db8::1");
        is("[2001:db8::1]:4711", "2001:db8::1");
        is("2001:db8::1", "2001:db8::1");
        is("::ffff:203.0.113.7", "203.0.113.7");
        is("unknown", "");
    }

    #[test]
    fn pages_of_the_same_host_of_a_listed_origin_or_behind_a_trusted_proxy_are_admitted() {
        let origins = Origins::new(vec!["http://localhost:3000".into(), "https://multica.ai".into()]);
        let far = "192.0.2.1";
        type Case<'c> = (&'c str, &'c [(&'static str, &'c str)], bool);
        let cases: &[Case<'_>] = &[
            (far, &[("host", "hub.example")], true),
            (far, &[("host", "hub.example"), ("origin", "http://hub.example")], true),
            (far, &[("host", "hub.example"), ("origin", "https://hub.example")], true),
            (far, &[("host", "hub.example"), ("origin", "https://HUB.Example")], true),
            (far, &[("host", "hub.example:443"), ("origin", "https://hub.example")], true),
            (far, &[("host", "hub.example:8080"), ("origin", "http://hub.example:8080")], true),
            (far, &[("host", "hub.example"), ("origin", "https://multica.ai")], true),
            (far, &[("host", "hub.example"), ("origin", "http://localhost:3000")], true),
            (
                "127.0.0.1",
                &[("host", "inner"), ("x-forwarded-host", "app.example"), ("origin", "https://app.example")],
                true,
            ),
            (
                "10.2.3.4",
                &[("host", "inner"), ("x-forwarded-host", "app.example"), ("origin", "https://app.example")],
                true,
            ),
            ("::1", &[("host", "inner"), ("x-forwarded-host", "APP.example"), ("origin", "https://app.Example")], true),
            (
                "::ffff:127.0.0.1",
                &[("host", "inner"), ("x-forwarded-host", "app.example"), ("origin", "https://app.example")],
                true,
            ),
            (
                "127.0.0.1",
                &[("host", "inner"), ("x-forwarded-host", "app.example, other"), ("origin", "https://app.example")],
                true,
            ),
            ("127.0.0.1", &[("host", "inner"), ("x-forwarded-host", "app.example"), ("origin", "http://inner")], true),
            (far, &[("host", "hub.example"), ("origin", "https://evil.example")], false),
            (far, &[("host", "hub.example"), ("origin", "null")], false),
            (far, &[("host", "hub.example"), ("origin", "")], false),
            (far, &[("host", "hub.example:8080"), ("origin", "http://hub.example:9090")], false),
            (far, &[("host", "hub.example:8080"), ("origin", "http://hub.example")], false),
            (far, &[("host", "hub.example"), ("origin", "https://hub.example.evil.example")], false),
            (far, &[("host", "inner"), ("x-forwarded-host", "app.example"), ("origin", "https://app.example")], false),
            (
                "127.0.0.1",
                &[("host", "inner"), ("x-forwarded-host", "app.example"), ("origin", "https://evil.example")],
                false,
            ),
            ("127.0.0.1", &[("host", "inner"), ("x-forwarded-host", ""), ("origin", "https://")], false),
            (
                "127.0.0.1",
                &[("host", "inner"), ("x-forwarded-host", "other, app.example"), ("origin", "https://app.example")],
                false,
            ),
            (far, &[("host", "hub.example"), ("origin", "https://multica.ai.evil.example")], false),
        ];
        for (peer, pairs, admitted) in cases {
            let peer: IpAddr = peer.parse().expect("an address");
            assert_eq!(admits(&origins, &proxies(), peer, &headers(pairs)), *admitted, "{peer} {pairs:?}");
        }
    }

    #[test]
    fn a_client_s_address_is_the_first_that_no_trusted_proxy_vouches_for_the_next() {
        for (peer, forwarded, client) in [
            ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
            ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "nonsense", "10.0.0.1"),
            ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ] {
            let found =
                proxies().client(peer.parse().expect("an address"), &headers(&[("x-forwarded-for", forwarded)]));
            assert_eq!(found.to_string(), client, "{peer} {forwarded}");
        }
        assert!(proxies().says_https("10.0.0.1".parse().expect("ip"), &headers(&[("x-forwarded-proto", "https")])));
        assert!(!proxies().says_https("192.0.2.1".parse().expect("ip"), &headers(&[("x-forwarded-proto", "https")])));
    }
}
