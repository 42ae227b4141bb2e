//! The house's own rules: imports go down, documents say what the program says.

use std::{collections::BTreeMap, fs, path::Path};

/// The rooms, top to bottom; each may know what stands below it, and itself.
const ROOMS: [&[&str]; 12] = [
    &["main", "lib", "cli", "test_hooks"],
    &["app"],
    &["config"],
    &["api"],
    &["ws"],
    &["flows"],
    &["tasks"],
    &["fleet"],
    &["workspace"],
    &["identity"],
    &["events"],
    &["hub", "db"],
];
const GROUND: &[&str] = &["protocol", "error", "ids", "time", "drops", "settings", "telemetry", "redis_link"];

fn source_files(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(path);
        }
    }
}

fn level(room: &str) -> Option<usize> {
    if GROUND.contains(&room) {
        return Some(ROOMS.len());
    }
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms named after `crate::`, in plain and in grouped imports.
fn named(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
    let text = code.as_str();
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => rooms.push(std::mem::take(&mut item)),
                    c if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            rooms.push(item);
        } else {
            rooms.push(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned());
        }
    }
    rooms
        .into_iter()
        .map(|item| item.trim().split("::").next().unwrap().split_whitespace().next().unwrap_or("").to_owned())
        .filter(|room| level(room).is_some())
        .collect()
}

#[test]
fn imports_go_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    let mut wrong = BTreeMap::new();
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let own = level(&room).unwrap_or_else(|| panic!("{room} is a room that this test does not know"));
        for other in named(&fs::read_to_string(&file).unwrap()) {
            if other != room && level(&other).unwrap() <= own && own < ROOMS.len() {
                wrong.insert(format!("{} knows {other}", inside.display()), ());
            }
            if own == ROOMS.len() && level(&other).unwrap() < ROOMS.len() {
                wrong.insert(format!("{} knows {other}", inside.display()), ());
            }
        }
    }
    assert!(wrong.is_empty(), "{:#?}", wrong.keys());
}

#[test]
fn the_documented_configuration_is_the_program_s() {
    let document = include_str!("../../docs/configuration.md");
    let reference = heartwire::config::Config::reference();
    assert!(
        document.contains(&reference),
        "docs/configuration.md is out of date; paste `heartwire check-config --reference`:\n{reference}"
    );
}

#[test]
fn transactions_begin_in_the_store_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    for file in files.iter().filter(|file| !file.starts_with(src.join("db"))) {
        let text = fs::read_to_string(file).unwrap();
        for word in ["begin_with(", "PgPool", "SqlitePool"] {
            assert!(!text.contains(word), "{} contains {word}", file.display());
        }
    }
}
