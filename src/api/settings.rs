//! What can be set about who reaches the hub, from where, and with how much.

use std::net::IpAddr;

use ipnet::IpNet;

use super::origin::{Origins, Proxies};
use crate::settings::{Key, Unusable, Values, unusable};

const PUBLIC_URL: Key = Key {
    name: "server.public_url",
    env: "HEARTWIRE_PUBLIC_URL",
    default: "",
    doc: "Address under which people reach the hub, as https://hub.example.com. Empty: the listening\naddress. Pages of this origin may open sockets; under https, session cookies are Secure.",
};
const ALLOWED_ORIGINS: Key = Key {
    name: "server.allowed_origins",
    env: "HEARTWIRE_ALLOWED_ORIGINS",
    default: "",
    doc: "Other origins whose pages may open sockets and call the API with a person's session, with\ncommas between: https://app.example.com,http://localhost:3000. Each can do what its visitor can.",
};
const TRUSTED_PROXIES: Key = Key {
    name: "server.trusted_proxies",
    env: "HEARTWIRE_TRUSTED_PROXIES",
    default: "",
    doc: "Addresses or networks of the reverse proxies in front of the hub, with commas between:\n127.0.0.1,10.0.0.0/8,::1. Only from them are X-Forwarded-Host, -Proto and -For believed.",
};

const METRICS_TOKEN: Key = Key {
    name: "server.metrics_token",
    env: "HEARTWIRE_METRICS_TOKEN",
    default: "",
    doc: "Bearer token for /metrics. Empty: only this machine may read them, and not through a proxy.",
};

const MAX_UPLOAD: Key = Key {
    name: "server.max_upload",
    env: "HEARTWIRE_MAX_UPLOAD",
    default: "25MiB",
    doc: "Largest file that can be attached (413 beyond it). Files lie in the database.",
};

/// The keys.
pub const KEYS: &[Key] = &[PUBLIC_URL, ALLOWED_ORIGINS, TRUSTED_PROXIES, METRICS_TOKEN, MAX_UPLOAD];

/// Where people come from, and what they may bring.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What people type.
    pub public_url: Option<String>,
    /// Whose pages may use the hub.
    pub origins: Origins,
    /// Whose word about clients counts.
    pub proxies: Proxies,
    /// What opens `/metrics`.
    pub metrics_token: Option<String>,
    /// Bytes of an uploaded file at most.
    pub max_upload: u64,
}

impl Settings {
    /// Reads the room's part.
    pub fn read(values: &Values) -> Result<Self, Unusable> {
        let public_url = values.text(&PUBLIC_URL).map(|url| url.trim_end_matches('/').to_owned());
        let mut origins = Vec::new();
        if let Some(url) = &public_url {
            let (text, from) = values.get(&PUBLIC_URL);
            origins.push(origin_of(url).ok_or_else(|| unusable(&PUBLIC_URL, text, from, "is not an http(s) address"))?);
        }
        let (text, from) = values.get(&ALLOWED_ORIGINS);
        for item in items(text) {
            let origin = origin_of(item).filter(|origin| origin.eq_ignore_ascii_case(item.trim_end_matches('/')));
            origins.push(origin.ok_or_else(|| {
                unusable(&ALLOWED_ORIGINS, item, from, "is not an origin such as https://app.example.com")
            })?);
        }
        let (text, from) = values.get(&TRUSTED_PROXIES);
        let proxies = items(text)
            .map(|item| {
                let network = item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
                network.map_err(|_| unusable(&TRUSTED_PROXIES, item, from, "is neither an address nor a network"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            public_url,
            origins: Origins::new(origins),
            proxies: Proxies::new(proxies),
            metrics_token: values.text(&METRICS_TOKEN),
            max_upload: values.size(&MAX_UPLOAD)? as u64,
        })
    }

    /// Whether people reach the hub over TLS by its public address.
    pub fn is_https(&self) -> bool {
        self.public_url.as_ref().is_some_and(|url| url.starts_with("https://"))
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Scheme, host and port of an address.
fn origin_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty() && !host.contains('@'))?;
    ["http", "https"].contains(&scheme).then(|| format!("{scheme}://{host}").to_ascii_lowercase())
}
