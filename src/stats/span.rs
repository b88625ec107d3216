//! Spans of time that end now, in steps.

use jiff::Timestamp;

use crate::store::Minute;

/// Seconds of a minute.
pub const MINUTE: i64 = 60;

/// Seconds of an hour.
pub const HOUR: i64 = 60 * MINUTE;

/// How far back one looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Minute by minute.
    Hour,
    /// In steps of ten minutes.
    Day,
    /// Hour by hour.
    Week,
}

impl Span {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|span| span.name() == name)
    }

    /// Seconds of a step.
    #[must_use]
    pub const fn step(self) -> i64 {
        match self {
            Self::Hour => MINUTE,
            Self::Day => 10 * MINUTE,
            Self::Week => HOUR,
        }
    }

    /// How many steps it has.
    #[must_use]
    pub const fn steps(self) -> i64 {
        match self {
            Self::Hour => 60,
            Self::Day => 24 * 6,
            Self::Week => 7 * 24,
        }
    }

    /// When the first step begins; the last one is the one that is now.
    #[must_use]
    pub fn first(self, now: Timestamp) -> Timestamp {
        begin(now.as_second() - (self.steps() - 1) * self.step(), self.step())
    }

    /// A point for each step, oldest first, with what was done in its minutes.
    #[must_use]
    pub fn points(self, now: Timestamp, minutes: impl IntoIterator<Item = Minute>) -> Vec<Minute> {
        let first = self.first(now).as_second();
        let at = |step: i64| begin(first + step * self.step(), self.step());
        let mut points: Vec<_> = (0..self.steps()).map(|step| Minute::new(at(step))).collect();
        for minute in minutes {
            let step = (minute.at.as_second() - first).div_euclid(self.step());
            if let Some(point) = usize::try_from(step).ok().and_then(|step| points.get_mut(step)) {
                point.add(&minute);
            }
        }
        points
    }
}

/// When the step of so many seconds began that this second is in.
pub fn begin(second: i64, step: i64) -> Timestamp {
    Timestamp::from_second(second - second.rem_euclid(step)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_points_of_an_hour_are_its_minutes_with_gaps_filled() {
        let now: Timestamp = "2026-11-25T02:00:30Z".parse().unwrap();
        let minute = |time: &str, submitted| {
            let at = format!("2026-11-25T{time}:00Z").parse().unwrap();
            Minute { submitted, running: submitted, ..Minute::new(at) }
        };
        let given = [minute("01:00", 9), minute("01:01", 1), minute("01:59", 2), minute("02:00", 3)];
        let points = Span::Hour.points(now, given);
        assert_eq!(points.len(), 60);
        assert_eq!(points[0], minute("01:01", 1));
        assert_eq!(points[57], minute("01:58", 0));
        assert_eq!(points[58..], [minute("01:59", 2), minute("02:00", 3)]);
    }

    #[test]
    fn counts_are_added_and_of_what_was_there_at_a_time_it_is_the_most() {
        let now: Timestamp = "2026-11-25T02:09:30Z".parse().unwrap();
        let minute = |minute: i64, count| Minute {
            submitted: count,
            finished: count + 1,
            failed: count + 2,
            cancelled: count + 3,
            running: count + 4,
            waiting: 10 - count,
            ..Minute::new(at(now.as_second() - now.as_second() % 600 + minute * 60))
        };
        let points = Span::Day.points(now, [minute(0, 1), minute(3, 5), minute(9, 2)]);
        let expected =
            Minute { submitted: 8, finished: 11, failed: 14, cancelled: 17, running: 9, waiting: 9, ..minute(0, 0) };
        assert_eq!(points.last(), Some(&expected));
    }

    proptest! {
        #[test]
        fn nothing_of_the_span_is_lost_or_made_up(
            now in 10_000_000_i64..2_000_000_000,
            minutes in prop::collection::vec((0_i64..20_000, 0_i64..100, 0_i64..100), 0..50),
            span in prop::sample::select(Span::ALL.to_vec()),
        ) {
            let first = span.first(at(now));
            let minutes: Vec<_> = minutes
                .into_iter()
                .map(|(ago, finished, waiting)| Minute {
                    finished,
                    waiting,
                    ..Minute::new(begin(now - ago * MINUTE, MINUTE))
                })
                .collect();
            let points = span.points(at(now), minutes.iter().copied());
            prop_assert_eq!(points.len() as i64, span.steps());
            prop_assert_eq!(points[0].at, first);
            prop_assert!(points.windows(2).all(|pair| pair[1].at.as_second() - pair[0].at.as_second() == span.step()));
            prop_assert!(points.last().is_some_and(|last| (0..span.step()).contains(&(now - last.at.as_second()))));
            let within = || minutes.iter().filter(|minute| minute.at >= first);
            let (sum, most) = (within().map(|m| m.finished).sum::<i64>(), within().map(|m| m.waiting).max());
            prop_assert_eq!(points.iter().map(|point| point.finished).sum::<i64>(), sum);
            prop_assert_eq!(points.iter().map(|point| point.waiting).max(), Some(most.unwrap_or(0)));
        }
    }
}
