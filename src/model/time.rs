//! Times as the interface shows them: UTC, `YYYY-MM-DD HH:MM:SS`.

use std::cell::RefCell;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// How long a result is kept; the class stands in its file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub enum Keep {
    /// One day.
    #[serde(rename = "1d")]
    Day,
    /// One week.
    #[serde(rename = "1w")]
    Week,
    /// One calendar month.
    #[serde(rename = "1m")]
    Month,
    /// One calendar year.
    #[serde(rename = "1y")]
    Year,
}

impl Keep {
    /// All classes there are.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Year];

    /// The class as it stands in the file's name.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Day => "1d",
            Self::Week => "1w",
            Self::Month => "1m",
            Self::Year => "1y",
        }
    }

    /// The moment at which what ended at `end` expires.
    #[must_use]
    pub fn expiry(self, end: Timestamp) -> Timestamp {
        let span = match self {
            Self::Day => jiff::Span::new().days(1),
            Self::Week => jiff::Span::new().weeks(1),
            Self::Month => jiff::Span::new().months(1),
            Self::Year => jiff::Span::new().years(1),
        };
        end.to_zoned_datetime(TimeZone::UTC).saturating_add(span).timestamp()
    }
}

/// Formats a moment as the interface and the database show it.
#[must_use]
pub fn format(at: Timestamp) -> String {
    let t: DateTime = TimeZone::UTC.to_datetime(at);
    let mut text = String::with_capacity(SHOWN_LENGTH);
    // Each row has several: by hand, digit by digit, since `format!` takes five times as long.
    let mut two = |number: i16, mark: Option<char>| {
        let digit = |digit: i16| char::from(b'0' + u8::try_from(digit.rem_euclid(10)).unwrap_or_default());
        text.extend([digit(number / 10), digit(number)]);
        text.extend(mark);
    };
    two(t.year() / 100, None);
    two(t.year() % 100, Some('-'));
    two(t.month().into(), Some('-'));
    two(t.day().into(), Some(' '));
    two(t.hour().into(), Some(':'));
    two(t.minute().into(), Some(':'));
    two(t.second().into(), None);
    text
}

/// Looks at a moment as [`format()`] shows it. The last one is remembered by each thread: tens of thousands of rows are
/// written, and read, within a second.
pub fn with_shown<T>(at: Timestamp, look: impl FnOnce(&str) -> T) -> T {
    thread_local! {
        static LAST: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    LAST.with_borrow_mut(|(second, text)| {
        if *second != at.as_second() {
            (*second, *text) = (at.as_second(), format(at));
        }
        look(text)
    })
}

/// Whether a moment, as [`format()`] shows it, lies before the second of `now`.
#[must_use]
pub fn is_past(shown: &str, now: Timestamp) -> bool {
    with_shown(now, |now| shown < now)
}

/// Formats a moment with its milliseconds, for the database alone: in this form too, later is greater.
#[must_use]
pub fn format_millis(at: Timestamp) -> String {
    format!("{}.{:03}", format(at), TimeZone::UTC.to_datetime(at).millisecond())
}

/// Reads what [`format_millis`] wrote; `None` where it did not.
#[must_use]
pub fn parse_millis(text: &str) -> Option<Timestamp> {
    DateTime::strptime("%Y-%m-%d %H:%M:%S%.f", text).ok().and_then(|at| TimeZone::UTC.to_timestamp(at).ok())
}

/// The interface's form, for reading.
const SHOWN: &str = "%Y-%m-%d %H:%M:%S";

/// Its length: `strptime` would take fewer digits, too.
const SHOWN_LENGTH: usize = 19;

/// Reads a time as the interface shows it, or as RFC 3339 has it. A fraction of a second counts as the next whole one:
/// what lies at or after it is then the same among whole seconds.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let time = read(text)?;
    let whole = whole(time)?;
    if whole < time { whole.checked_add(jiff::SignedDuration::from_secs(1)).ok() } else { Some(whole) }
}

/// The same for a moment at which something was: a fraction of a second is left out.
#[must_use]
pub fn parse_begun(text: &str) -> Option<Timestamp> {
    whole(read(text)?)
}

/// The same as [`parse`] for the end of a span, which may be the last second of all that can be written.
#[must_use]
pub fn parse_bound(text: &str) -> Option<Timestamp> {
    // A `Timestamp` ends a day before that, so that it is a time in every zone: a year earlier it would be one.
    let is_last = || text.strip_prefix("9999-").is_some_and(|rest| parse(&format!("9998-{rest}")).is_some());
    parse(text).or_else(|| is_last().then_some(Timestamp::MAX))
}

fn read(text: &str) -> Option<Timestamp> {
    let shown = (text.len() == SHOWN_LENGTH)
        .then(|| TimeZone::UTC.to_timestamp(DateTime::strptime(SHOWN, text).ok()?).ok())
        .flatten();
    let time = shown.or_else(|| rfc3339(text))?;
    // Their text sorts as time does only within years of four digits.
    (!text.starts_with(['-', '+']) && TimeZone::UTC.to_datetime(time).year() >= 0).then_some(time)
}

fn whole(time: Timestamp) -> Option<Timestamp> {
    // Towards the past, also before 1970.
    Timestamp::from_second(time.as_millisecond().div_euclid(1000)).ok()
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    // In a query an offset's plus arrives as a space where it was not encoded.
    let restored = match text.rsplit_once(' ') {
        Some((time, offset)) if time.contains(['T', 't']) => format!("{time}+{offset}"),
        _ => text.to_owned(),
    };
    // jiff reads more than RFC 3339 allows: date and time in full are asked for, and no zone's name or day-long offset.
    let full = restored.len() >= 20 && restored.as_bytes()[10..].iter().filter(|byte| **byte == b':').count() >= 2;
    let hours = restored.rsplit_once(['+', '-']).map_or("", |(_, offset)| offset.split(':').next().unwrap_or_default());
    let is_day_long = !restored.ends_with(['Z', 'z']) && hours.parse::<u8>().is_ok_and(|hours| hours > 23);
    if full && !restored.contains('[') && !is_day_long { restored.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_two_digits_everywhere_but_in_the_year() {
        let at: Timestamp = "2017-02-06T08:01:02.999Z".parse().unwrap();
        assert_eq!(format(at), "2017-02-06 08:01:02");
    }

    #[test]
    fn what_is_shown_is_past_from_the_next_second_on() {
        let at: Timestamp = "2017-02-06T08:01:02.999Z".parse().unwrap();
        for (shown, past) in
            [("2017-02-06 08:01:01", true), ("2017-02-06 08:01:02", false), ("2018-01-01 00:00:00", false)]
        {
            assert_eq!(is_past(shown, at), past, "{shown}");
        }
        assert!(is_past("2017-02-06 08:01:02", "2017-02-06T08:01:03Z".parse().unwrap()));
    }

    #[test]
    fn a_month_ends_on_the_last_day_there_is() {
        let end: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
        assert_eq!(format(Keep::Month.expiry(end)), "2026-02-28 10:00:00");
        assert_eq!(format(Keep::Year.expiry(end)), "2027-01-31 10:00:00");
        assert_eq!(format(Keep::Week.expiry(end)), "2026-02-07 10:00:00");
        assert_eq!(format(Keep::Day.expiry(end)), "2026-02-01 10:00:00");
    }

    #[test]
    fn times_are_read_as_shown_and_as_rfc_3339() {
        for text in [
            "2026-01-31 10:00:00",
            "2026-01-31T10:00:00Z",
            "2026-01-31T12:00:00+02:00",
            "2026-01-31T12:00:00 02:00",
            "2026-01-31T09:59:59.001Z",
        ] {
            assert_eq!(parse(text).map(format).as_deref(), Some("2026-01-31 10:00:00"), "{text}");
        }
        for text in [
            "",
            "2026-01-31",
            "2026-02-30 10:00:00",
            "2026-01-31 25:00:00",
            "now",
            "2026-01-31T10:00:00",
            "1",
            "2026-01-31T10:00:00-25:00",
            "2026-01-31T10:00:00+24:00",
            "2026-01-31T10:00:00+00:00[Europe/Berlin]",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_fraction_leads_a_bound_to_the_next_second_and_is_left_out_of_what_was() {
        let text = "2026-12-31T23:59:59.2Z";
        assert_eq!(parse(text).map(format).as_deref(), Some("2027-01-01 00:00:00"));
        assert_eq!(parse_begun(text).map(format).as_deref(), Some("2026-12-31 23:59:59"));
        assert_eq!(parse_begun("1969-12-31T23:59:58.9Z").map(format).as_deref(), Some("1969-12-31 23:59:58"));
    }

    #[test]
    fn a_span_may_end_with_the_last_second_there_is() {
        for text in ["9999-12-31 23:59:59", "9999-12-31 00:00:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-11:00"]
        {
            assert_eq!((parse(text), parse_bound(text)), (None, Some(Timestamp::MAX)), "{text}");
        }
        assert_eq!(parse_bound("9999-12-30 10:00:00"), parse("9999-12-30 10:00:00"));
        for text in ["9999-12-32 00:00:00", "9999-12-31", "99999-12-31 00:00:00"] {
            assert_eq!(parse_bound(text), None, "{text}");
        }
    }
}
