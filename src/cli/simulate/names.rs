//! What simulated machines call themselves: names that a dashboard's reader recognises as machines,
//! the same in every run.

const DEVICES: &[&str] = &[
    "mira-macbook-pro",
    "build-box",
    "studio-linux",
    "jonas-thinkpad",
    "ci-runner",
    "ada-mac-mini",
    "lab-workstation",
    "noor-framework",
];

const PROVIDERS: &[(&str, &str)] = &[
    ("claude", "2.1.34 (Claude Code)"),
    ("codex", "codex-cli 0.98.0"),
    ("gemini", "0.27.3"),
    ("opencode", "1.1.53"),
    ("cursor", "2026.02.13-41ac335"),
    ("copilot", "GitHub Copilot CLI 0.0.406"),
    ("hermes", "hermes 0.4.2"),
    ("kimi", "kimi, version 1.9.0"),
];

/// The machine's name of the daemon with this index.
pub fn device(index: usize) -> String {
    numbered(DEVICES[index % DEVICES.len()], index / DEVICES.len())
}

/// Provider and version of a daemon's runtime. A daemon has one runtime per provider, so beyond the
/// known ones they are numbered.
pub fn provider(index: usize) -> (String, &'static str) {
    let (provider, version) = PROVIDERS[index % PROVIDERS.len()];
    (numbered(provider, index / PROVIDERS.len()), version)
}

/// With its first letter in upper case, as daemons name runtimes.
pub fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn numbered(name: &str, round: usize) -> String {
    if round == 0 { name.to_owned() } else { format!("{name}-{}", round + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_runtimes_of_a_daemon_share_a_provider() {
        let mut providers: Vec<String> = (0..40).map(|index| provider(index).0).collect();
        providers.sort_unstable();
        providers.dedup();
        assert_eq!(providers.len(), 40);
        assert_eq!(capitalised("claude"), "Claude");
        assert_eq!(device(DEVICES.len()), "mira-macbook-pro-2");
    }
}
