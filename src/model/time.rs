//! Times as the interface shows them: UTC, `YYYY-MM-DD HH:MM:SS`.

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
    format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second())
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
    fn a_month_ends_on_the_last_day_there_is() {
        let end: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
        assert_eq!(format(Keep::Month.expiry(end)), "2026-02-28 10:00:00");
        assert_eq!(format(Keep::Year.expiry(end)), "2027-01-31 10:00:00");
        assert_eq!(format(Keep::Week.expiry(end)), "2026-02-07 10:00:00");
        assert_eq!(format(Keep::Day.expiry(end)), "2026-02-01 10:00:00");
    }
}
