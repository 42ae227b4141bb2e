//! Session tokens: JSON Web Tokens signed with HMAC-SHA256 and nothing else. The algorithm is not
//! read from the token, so there is none to choose for an attacker. A library would bring RSA and
//! elliptic curves for this one case.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::ids::{SessionId, UserId};

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// Longer is no token of ours; not worth hashing.
const LONGEST: usize = 2048;

/// The hub's signing key, the same on every node.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// What a session token says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Who.
    pub sub: UserId,
    /// The session's row; the token is worth what the row is.
    pub sid: SessionId,
    /// Issued, seconds since the epoch.
    pub iat: i64,
    /// Worthless from then on, seconds since the epoch.
    pub exp: i64,
}

impl Key {
    /// A key from secret bytes of any length.
    pub fn new(secret: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    /// A signed token.
    pub fn sign(&self, claims: &Claims) -> String {
        let claims = serde_json::to_vec(claims).unwrap_or_default();
        let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(claims));
        let mut mac = self.0.clone();
        mac.update(signed.as_bytes());
        let signature = BASE64.encode(mac.finalize().into_bytes());
        format!("{signed}.{signature}")
    }

    /// The claims of a token that this key signed. Whether it is still in force is not asked here.
    pub fn verify(&self, token: &str) -> Option<Claims> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let mut mac = self.0.clone();
        mac.update(signed.as_bytes());
        // Compares in constant time.
        mac.verify_slice(&BASE64.decode(signature).ok()?).ok()?;
        #[derive(Deserialize)]
        struct Header<'a> {
            alg: &'a str,
        }
        let header = BASE64.decode(header).ok()?;
        let header: Header<'_> = serde_json::from_slice(&header).ok()?;
        if header.alg != "HS256" {
            return None;
        }
        serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()
    }
}

/// The value of the `multica_csrf` cookie for a session cookie: `hex(nonce).hex(HMAC(cookie, nonce))`.
pub fn csrf_token(session: &str) -> String {
    let nonce: [u8; 16] = rand::random();
    format!("{}.{}", hex(&nonce), hex(&csrf_mac(session, &nonce).finalize().into_bytes()))
}

/// Whether a request's `X-CSRF-Token` was made for its session cookie.
pub fn is_csrf_token(session: &str, token: &str) -> bool {
    let parts = token.split_once('.').and_then(|(nonce, mac)| Some((unhex(nonce)?, unhex(mac)?)));
    parts.is_some_and(|(nonce, mac)| nonce.len() == 16 && csrf_mac(session, &nonce).verify_slice(&mac).is_ok())
}

#[allow(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn csrf_mac(session: &str, nonce: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(session.as_bytes()).expect("any length");
    mac.update(nonce);
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() > 128 || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims { sub: UserId::fresh(), sid: SessionId::fresh(), iat: 1, exp: 2 }
    }

    #[test]
    fn only_what_this_key_signed_with_this_algorithm_is_read() {
        let key = Key::new(b"secret").expect("a key");
        let claims = claims();
        let token = key.sign(&claims);
        assert_eq!(key.verify(&token), Some(claims.clone()));
        assert_eq!(Key::new(b"other").expect("a key").verify(&token), None);

        let parts: Vec<&str> = token.split('.').collect();
        let unsigned = BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let other = BASE64.encode(r#"{"alg":"HS512","typ":"JWT"}"#);
        let mut forged = claims;
        forged.exp = i64::MAX;
        let later = BASE64.encode(serde_json::to_vec(&forged).expect("JSON"));
        for bad in [
            String::new(),
            ".".into(),
            "..".into(),
            token[..token.len() - 1].to_owned(),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{unsigned}.{}.", parts[1]),
            format!("{unsigned}.{}.{}", parts[1], parts[2]),
            format!("{other}.{}.{}", parts[1], parts[2]),
            format!("{}.{later}.{}", parts[0], parts[2]),
            format!("{token}.{}", parts[2]),
            "a".repeat(10_000),
        ] {
            assert_eq!(key.verify(&bad), None, "{bad}");
        }
        // Signed by us, in another algorithm's name.
        let mut mac = key.0.clone();
        let signed = format!("{other}.{}", parts[1]);
        mac.update(signed.as_bytes());
        assert_eq!(key.verify(&format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))), None);
    }

    #[test]
    fn a_csrf_token_fits_the_session_it_was_made_for() {
        let token = csrf_token("session");
        assert_eq!(token.len(), 32 + 1 + 64);
        assert!(is_csrf_token("session", &token));
        assert!(!is_csrf_token("other", &token));
        for bad in ["", ".", "00.00", "é.é", &token[1..], &token.replace('.', "")] {
            assert!(!is_csrf_token("session", bad), "{bad:?}");
        }
    }
}
