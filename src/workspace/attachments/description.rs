//! What an upload says of itself, made fit to be stored.

/// Bytes of a file's name, and of its type.
const LONGEST: usize = 255;
/// What is said of bytes that nothing is known of.
const UNKNOWN: &str = "application/octet-stream";

/// How files of some types begin.
const BEGINNINGS: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
];

/// The last part of a path of any system, without what a terminal or a page would act upon.
pub(super) fn name(given: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control() && !turns_text(*c)).collect();
    let clean = cut(clean.trim());
    if matches!(clean, "" | "." | "..") { "file".to_owned() } else { clean.to_owned() }
}

/// The type as it was given, or as the first bytes show it if it was not: command lines send none.
pub(super) fn content_type(given: Option<&str>, beginning: &[u8]) -> String {
    let given = given.map(str::trim).unwrap_or_default();
    let is_plain = given.len() <= LONGEST && given.bytes().all(|b| (b' '..=b'~').contains(&b));
    if is_plain && !given.is_empty() && given != UNKNOWN {
        return given.to_owned();
    }
    let is_webp = beginning.starts_with(b"RIFF") && beginning.get(8..12) == Some(b"WEBP");
    let known = BEGINNINGS.iter().find(|(bytes, _)| beginning.starts_with(bytes)).map(|(_, kind)| *kind);
    known.or(is_webp.then_some("image/webp")).unwrap_or(UNKNOWN).to_owned()
}

/// Characters that show what follows them in another order, so that an `exe` looks like a `txt`.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_folders_and_whatever_is_not_text() {
        for (given, expected) in [
            ("report.pdf", "report.pdf"),
            ("/etc/passwd", "passwd"),
            (r"C:\Users\me\ä b.txt", "ä b.txt"),
            ("../..", "file"),
            ("a/", "file"),
            ("", "file"),
            ("a\r\nb\0c\u{7f}.txt", "abc.txt"),
            ("photo\u{202E}gpj.exe", "photogpj.exe"),
            ("  spaced  ", "spaced"),
        ] {
            assert_eq!(name(given), expected, "{given:?}");
        }
        let long = name(&"ü".repeat(300));
        assert_eq!((long.len(), long.chars().count()), (254, 127), "cut between characters");
    }

    #[test]
    fn a_type_that_was_not_given_is_seen_from_the_first_bytes() {
        let png = b"\x89PNG\r\n\x1a\n....";
        assert_eq!(content_type(Some("text/plain"), png), "text/plain");
        assert_eq!(content_type(Some(UNKNOWN), png), "image/png");
        assert_eq!(content_type(None, b"RIFF....WEBPVP8 "), "image/webp");
        assert_eq!(content_type(None, b"RIFF"), UNKNOWN);
        assert_eq!(content_type(Some("text/\u{7f}"), b""), UNKNOWN);
        assert_eq!(content_type(Some(&"x".repeat(300)), b""), UNKNOWN);
    }
}
