//! Days, as clients write them.

use crate::error::{Error, Result};

/// A day from `YYYY-MM-DD`, or from a point in time at midnight UTC; `field` names it in the
/// refusal. Nothing for an empty text.
pub(super) fn day(field: &'static str, text: &str) -> Result<Option<String>> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    read(text)
        .map(|day| Some(day.to_string()))
        .ok_or_else(|| Error::invalid("invalid_date", format!("invalid {field}: use YYYY-MM-DD")))
}

fn read(text: &str) -> Option<jiff::civil::Date> {
    if text.len() == 10 {
        return text.parse().ok().filter(|day: &jiff::civil::Date| day.year() >= 1000);
    }
    let moment = text.parse::<jiff::Timestamp>().ok()?.to_zoned(jiff::tz::TimeZone::UTC);
    (moment.time() == jiff::civil::Time::midnight() && moment.date().year() >= 1000).then(|| moment.date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_come_as_days_or_as_midnights() {
        for (text, read) in [
            ("2026-02-28", Some("2026-02-28")),
            ("2026-02-28T00:00:00Z", Some("2026-02-28")),
            ("2026-02-28T01:00:00+01:00", Some("2026-02-28")),
            ("", None),
        ] {
            assert_eq!(day("due_date", text).expect(text).as_deref(), read, "{text}");
        }
        for bad in ["2026-02-30", "26-2-3", "2026-02-28T00:00:01Z", "2026-02-28T00:00:00", "tomorrow", "0000-01-01"] {
            assert!(day("due_date", bad).is_err(), "{bad}");
        }
    }
}
