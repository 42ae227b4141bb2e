//! Bearer secrets: a prefix that names the kind and forty hex digits, shown once and stored as
//! SHA-256. 160 random bits need no slow hash.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// A person's token.
pub const PERSONAL: &str = "mul_";
/// A daemon's.
pub const DAEMON: &str = "mdt_";
/// A task's.
pub const TASK: &str = "mat_";

const RANDOM_BYTES: usize = 20;
/// How much of a secret is shown to recognise it by.
const SHOWN: usize = 12;

/// A new secret of a kind.
pub fn mint(prefix: &str) -> String {
    let random: [u8; RANDOM_BYTES] = rand::random();
    let mut secret = String::from(prefix);
    for byte in random {
        let _ = write!(secret, "{byte:02x}");
    }
    secret
}

/// What is stored of a secret.
pub fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// What is shown of a secret.
pub fn shown(secret: &str) -> &str {
    secret.get(..SHOWN).unwrap_or(secret)
}

/// Whether it looks like a secret of this kind; saves a look-up for what cannot be one.
pub fn is(prefix: &str, secret: &str) -> bool {
    secret
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == 2 * RANDOM_BYTES && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_secret_is_of_its_kind_and_no_other() {
        let token = mint(PERSONAL);
        assert_eq!(token.len(), 44);
        assert!(is(PERSONAL, &token));
        assert!(!is(DAEMON, &token));
        assert_ne!(token, mint(PERSONAL));
        for bad in ["", "mul_", &token[..43], &format!("{token}0"), "mul_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"] {
            assert!(!is(PERSONAL, bad), "{bad:?}");
        }
        assert_eq!(shown(&token), &token[..12]);
    }
}
