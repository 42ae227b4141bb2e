//! The one validator of paths inside a skill: at writes, at imports and at claims. A daemon makes
//! files of them on somebody's machine, whose file system may know no letter case.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Bytes of one part of a path, as file systems have it, and of the whole.
const PART: usize = 255;
const WHOLE: usize = 1024;

/// The skill's own text; it is stored apart and not among the files.
pub const MAIN: &str = "SKILL.md";

/// Whether a path is that of the skill's own text, on some machine at least.
pub fn is_main(path: &str) -> bool {
    folded(path) == folded(MAIN)
}

/// A path that stays inside the skill's folder on every system; refused otherwise.
pub fn check(path: &str) -> Result<&str> {
    if is_safe(path) { Ok(path) } else { Err(Error::invalid("invalid_path", format!("invalid file path {path:?}"))) }
}

/// Refuses paths, none of them twice, that cannot all be files of one folder, beside the skill's own
/// text: such as differ only in letter case, and a file that is another one's folder.
pub fn check_together<'p>(paths: impl IntoIterator<Item = &'p str>) -> Result<()> {
    let mut files = BTreeMap::from([(folded(MAIN), MAIN)]);
    for path in paths {
        if let Some(other) = files.insert(folded(path), path) {
            return Err(clash(format!("file paths {other:?} and {path:?} differ only in letter case")));
        }
    }
    for (path, as_given) in &files {
        let mut folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        if let Some(file) = folders.find_map(|folder| files.get(folder)) {
            return Err(clash(format!("file path {as_given:?} needs a folder where {file:?} is a file")));
        }
    }
    Ok(())
}

fn clash(text: String) -> Error {
    Error::invalid("path_clash", text)
}

/// A path as it is compared where letter case counts for nothing. There and back, since some letters
/// have a partner in one direction only.
fn folded(path: &str) -> String {
    path.to_lowercase().to_uppercase()
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

    #[test]
    fn what_is_one_file_on_some_machine_is_not_taken_twice() {
        for good in [&["a", "b/a", "b/c"][..], &["A/x", "a/y"], &["a.b", "a/b"], &["skill/SKILL.md", "skill.md.bak"]] {
            assert!(check_together(good.iter().copied()).is_ok(), "{good:?}");
        }
        for bad in [
            &["a.md", "A.md"][..],
            &["b/a", "B/A"],
            &["ä", "Ä"],
            &["k", "\u{212A}"],
            &["s", "\u{17F}"],
            &["a", "a/b"],
            &["a/b/c", "x", "A"],
            &["skill.md"],
            &["Skill.MD/x"],
        ] {
            assert!(check_together(bad.iter().copied()).is_err(), "{bad:?}");
        }
        assert!(is_main("SKILL.md") && is_main("s\u{212A}ill.Md") && !is_main("a/SKILL.md"));
    }
}
