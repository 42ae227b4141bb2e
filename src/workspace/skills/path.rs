//! The one validator of paths inside a skill: at writes, at imports and at claims. A daemon makes
//! files of them on somebody's machine.

use crate::error::{Error, Result};

/// Bytes of one part of a path, as file systems have it, and of the whole.
const PART: usize = 255;
const WHOLE: usize = 1024;

/// The skill's own text; it is stored apart and not among the files.
pub const MAIN: &str = "SKILL.md";

/// A path that stays inside the skill's folder on every system; refused otherwise.
pub fn check(path: &str) -> Result<&str> {
    if is_safe(path) { Ok(path) } else { Err(Error::invalid("invalid_path", format!("invalid file path {path:?}"))) }
}

fn is_safe(path: &str) -> bool {
    path.len() <= WHOLE
        && !path.contains(['\\', '\0', '\u{FFFD}'])
        && !path.chars().any(char::is_control)
        && !is_drive(path)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= PART)
}

fn is_drive(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_stay_inside_the_folder_are_taken() {
        for good in ["a.md", "scripts/run.sh", "ä/ö", "...", "a..b", ".env", &"x".repeat(255)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "a//b",
            "a/",
            r"a\b",
            r"..\x",
            "C:x",
            "c:/x",
            "a\0b",
            "a\u{FFFD}b",
            "a\nb",
            &"x".repeat(256),
            &"x/".repeat(600),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
