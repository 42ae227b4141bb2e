//! When a schedule comes due: five cron fields, read in a time zone.
//!
//! Fields name local times. Where the clock is put forward, the times it leaps over come due
//! together at the first instant after the leap; where it is put back, the times it shows twice
//! come due the first time only. So every local time that is named comes due once, whatever the
//! zone does.
//!
//! The expression is read, and days are matched, by `croner`; its own search is not used, as it
//! passes over what lies in a leap, and looks for what can never be until the year 5000.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    Zoned,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};

use crate::{
    error::{Error, Result},
    time::Timestamp,
};

/// Bytes of an expression, and of a zone's name, at most.
const LONGEST: usize = 256;
/// Days that are looked through: the longest way between two leap days is eight years.
const HORIZON: usize = 9 * 366;
/// Names that a machine's zone files have beside those of the IANA, which mean something else on
/// each machine, or nothing.
const NOT_ZONES: &[&str] = &["localtime", "posixrules", "Factory"];

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// The names that each field knows.
const NAMES: [&[&str]; 5] = [&[], &[], &[], MONTHS, WEEKDAYS];

/// A schedule that can be asked when it comes due.
pub struct Schedule {
    cron: Cron,
    hours: Vec<i8>,
    minutes: Vec<i8>,
    zone: TimeZone,
}

impl Schedule {
    /// Reads an expression and the name of a zone; none stands for UTC.
    pub fn parse(expression: &str, zone: Option<&str>) -> Result<Self> {
        if expression.trim().is_empty() {
            return Err(Error::invalid("field_required", "cron_expression is required"));
        }
        let cron = parse(expression).ok_or_else(|| {
            let text =
                "invalid cron_expression; five fields are wanted: minute, hour, day of month, month, day of week";
            Error::invalid("invalid_cron_expression", text)
        })?;
        let values = |field: &croner::CronComponent| field.values().into_iter().filter_map(|v| i8::try_from(v).ok());
        let (hours, minutes) = (values(&cron.pattern.hours).collect(), values(&cron.pattern.minutes).collect());
        let zone = zone.map_or(Ok(TimeZone::UTC), find_zone)?;
        Ok(Self { cron, hours, minutes, zone })
    }

    /// The first time after `now`, refusing a schedule that has none.
    pub fn first(&self, now: Timestamp) -> Result<Timestamp> {
        let text = "cron_expression never comes due";
        self.next(now).ok_or_else(|| Error::invalid("cron_never_due", text))
    }

    /// The first time after `after`; none if the fields name no day that exists.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_microsecond(after.0).ok()?;
        let local = self.zone.to_datetime(after);
        // No earlier local time than this can lie ahead: only those that it shows a second time
        // come again, and they came due the first time.
        let days = local.date().series(jiff::Span::new().days(1)).take(HORIZON);
        days.filter(|day| self.has(*day))
            .flat_map(|day| self.times().map(move |time| day.to_datetime(time)))
            .filter(|time| *time > local)
            .filter_map(|time| self.instant(time))
            .find(|instant| *instant > after)
            .map(|instant| Timestamp(instant.as_microsecond()))
    }

    /// Whether the day is one of those named, by the first of the times named.
    fn has(&self, day: Date) -> bool {
        self.times().next().is_some_and(|time| self.cron.is_time_matching(&day.to_datetime(time)).unwrap_or(false))
    }

    /// The times of a day, in order.
    fn times(&self) -> impl Iterator<Item = Time> {
        self.hours.iter().flat_map(|hour| self.minutes.iter().filter_map(|minute| Time::new(*hour, *minute, 0, 0).ok()))
    }

    /// When a local time comes due. A later one never comes due earlier.
    fn instant(&self, time: DateTime) -> Option<jiff::Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(time);
        let leapt_over = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
        // Inside a leap, the earlier reading lies before it.
        let earlier = ambiguous.earlier().ok()?;
        if !leapt_over {
            return Some(earlier);
        }
        self.zone.following(earlier).next().map(|leap| leap.timestamp())
    }
}

/// A zone's name as the IANA spells it.
pub fn zone_name(name: &str) -> Result<String> {
    let zone = find_zone(name)?;
    Ok(zone.iana_name().unwrap_or(name).to_owned())
}

/// A point in time as a zone's clocks show it; none stands for UTC, and so does one that has gone
/// from this machine's zone files.
pub fn in_zone(at: Timestamp, zone: Option<&str>) -> Zoned {
    let zone = zone.and_then(|name| find_zone(name).ok()).unwrap_or(TimeZone::UTC);
    jiff::Timestamp::from_microsecond(at.0).unwrap_or_default().to_zoned(zone)
}

fn find_zone(name: &str) -> Result<TimeZone> {
    let invalid = || Error::invalid("invalid_timezone", "invalid timezone; an IANA name is wanted, like Europe/Berlin");
    if name.len() > LONGEST || NOT_ZONES.iter().any(|other| other.eq_ignore_ascii_case(name)) {
        return Err(invalid());
    }
    let zone = TimeZone::get(name).map_err(|_| invalid())?;
    if zone.is_unknown() { Err(invalid()) } else { Ok(zone) }
}

fn parse(expression: &str) -> Option<Cron> {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let plain = fields.len() == NAMES.len() && fields.iter().zip(NAMES).all(|(field, names)| is_plain(field, names));
    if expression.len() > LONGEST || !plain {
        return None;
    }
    // `5/15` is `5-59/15`, as most know it.
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).sloppy_ranges(true).build();
    let cron = parser.parse(expression).ok()?;
    // What other readers of cron do not know: `L` has no name here, `W` neither.
    (!cron.pattern.days.has_modifiers() && !cron.pattern.days_of_week.has_modifiers()).then_some(cron)
}

/// Whether a field is a list of values, ranges and steps; the parser overlooks empty items, and
/// takes a month's name for its number in any field.
fn is_plain(field: &str, names: &[&str]) -> bool {
    field.split([',', '-', '/']).all(|word| match word {
        "" => false,
        "*" | "?" => true,
        word if word.bytes().all(|byte| byte.is_ascii_digit()) => true,
        word => names.iter().any(|name| name.eq_ignore_ascii_case(word)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().expect("a time").as_microsecond())
    }

    /// The next few times after `from`, as UTC.
    fn due(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(expression, Some(zone)).expect("a schedule");
        let mut last = at(from);
        std::iter::from_fn(|| {
            last = schedule.next(last)?;
            Some(last.to_string())
        })
        .take(count)
        .collect()
    }

    #[test]
    fn fields_name_local_times() {
        for (expression, zone, from, expected) in [
            ("0 9 * * *", "UTC", "2026-11-21T08:59:59.999Z", "2026-11-21T09:00:00Z"),
            ("0 9 * * *", "UTC", "2026-11-21T09:00:00Z", "2026-11-22T09:00:00Z"),
            ("0 9 * * *", "UTC", "2026-11-21T09:00:00.000001Z", "2026-11-22T09:00:00Z"),
            ("0 9 * * *", "Asia/Kathmandu", "2026-11-21T00:00:00Z", "2026-11-21T03:15:00Z"),
            ("0 9 * * *", "europe/berlin", "2026-11-21T00:00:00Z", "2026-11-21T08:00:00Z"),
            ("*/15 8-18 * * MON-FRI", "UTC", "2026-11-20T18:45:00Z", "2026-11-23T08:00:00Z"),
            ("5/20 * * * *", "UTC", "2026-11-21T00:26:00Z", "2026-11-21T00:45:00Z"),
            ("0 0 ? jan,Jul ?", "UTC", "2026-11-21T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 0 * * 7", "UTC", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
            // A day of the month or one of the week, if both are named.
            ("0 0 13 * 5", "UTC", "2026-11-21T00:00:00Z", "2026-11-27T00:00:00Z"),
            ("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
            ("  0   0 31\t* *  ", "UTC", "2026-11-21T00:00:00Z", "2026-12-31T00:00:00Z"),
        ] {
            assert_eq!(due(expression, zone, from, 1), [expected], "{expression} in {zone} after {from}");
        }
    }

    #[test]
    fn times_that_the_clock_leaps_over_come_due_right_after() {
        // In New York 02:00 to 03:00 is missing on 8 March 2026; 03:00 is 07:00 UTC.
        let york = "America/New_York";
        let from = "2026-03-07T12:00:00Z";
        assert_eq!(
            due("30 2 * * *", york, from, 2),
            ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"],
            "once, and on the next day as ever"
        );
        assert_eq!(due("0,30 2,14 * * *", york, from, 4)[2..], ["2026-03-08T07:00:00Z", "2026-03-08T18:00:00Z"]);
        assert_eq!(
            due("*/30 * * * *", york, "2026-03-08T06:29:00Z", 3),
            ["2026-03-08T06:30:00Z", "2026-03-08T07:00:00Z", "2026-03-08T07:30:00Z"]
        );
        // Half an hour is missing.
        assert_eq!(due("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", 1), ["2026-10-03T15:30:00Z"]);
        // Midnight is missing.
        assert_eq!(due("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", 1), ["2026-04-23T22:00:00Z"]);
        // A whole day is missing.
        assert_eq!(
            due("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3),
            ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]
        );
    }

    #[test]
    fn times_that_the_clock_shows_twice_come_due_once() {
        // In New York 01:00 to 02:00 is there twice on 1 November 2026: from 05:00 and from 06:00 UTC.
        let york = "America/New_York";
        assert_eq!(
            due("30 1 * * *", york, "2026-10-31T12:00:00Z", 2),
            ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]
        );
        assert_eq!(
            due("30 * * * *", york, "2026-11-01T04:00:00Z", 3),
            ["2026-11-01T04:30:00Z", "2026-11-01T05:30:00Z", "2026-11-01T07:30:00Z"]
        );
        // Asked the second time round.
        for from in ["2026-11-01T06:10:00Z", "2026-11-01T06:30:00Z", "2026-11-01T06:50:00Z"] {
            assert_eq!(due("30 1,2 * * *", york, from, 1), ["2026-11-01T07:30:00Z"], "{from}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let refused = |expression: &str, zone: Option<&str>| match Schedule::parse(expression, zone) {
            Err(error) => error.to_string(),
            Ok(schedule) => schedule.first(at("2026-11-21T00:00:00Z")).expect_err(expression).to_string(),
        };
        for blank in ["", "  "] {
            assert_eq!(refused(blank, None), "cron_expression is required");
        }
        let long = format!("{} * * * *", "1,".repeat(200));
        for bad in [
            "* * * *",
            "0 * * * * *",
            "@daily",
            "CRON_TZ=UTC 0 * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "/5 * * * *",
            ", * * * *",
            "1,,2 * * * *",
            "MON * * * *",
            "* * * MON *",
            "* * * * JAN",
            "* * L * *",
            "* * 5W * *",
            "* * * * 5L",
            "* * * * 5#2",
            "* * * * +5",
            "1JAN * * * *",
            "é * * * *",
            "99999999999999999999 * * * *",
            &long,
        ] {
            assert!(refused(bad, None).starts_with("invalid cron_expression;"), "{bad}");
        }
        for never in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "* * 31 FEB ?"] {
            assert_eq!(refused(never, None), "cron_expression never comes due", "{never}");
        }
        let long = "x".repeat(1000);
        for bad in ["", "Mars/Olympus", "Local", "localtime", "Etc/Unknown", "../../etc/passwd", "+02:00", &long] {
            assert!(refused("0 0 * * *", Some(bad)).starts_with("invalid timezone;"), "{bad}");
        }
    }

    #[test]
    fn zones_are_spelt_as_the_iana_does() {
        assert_eq!(zone_name("europe/BERLIN").expect("a zone"), "Europe/Berlin");
        assert!(zone_name("Europe/Nowhere").is_err());
    }
}
