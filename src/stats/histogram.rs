//! How long calls took, in few buckets: each spans half as much again as the one before it.

use std::time::Duration;

/// How many there are: one for what took less than a millisecond, one for a day and more, the others in between.
pub const BUCKETS: usize = 48;

/// A day, in milliseconds.
const LONGEST: f64 = 86_400_000.0;

/// How many calls took how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram([u64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Histogram {
    /// Takes in a call that took so long.
    pub fn record(&mut self, took: Duration) {
        self.0[bucket(took)] += 1;
    }

    /// Takes in the buckets of another.
    pub fn add(&mut self, buckets: &[u64]) {
        for (sum, new) in self.0.iter_mut().zip(buckets) {
            *sum = sum.saturating_add(*new);
        }
    }

    /// Its buckets.
    #[must_use]
    pub fn buckets(&self) -> &[u64] {
        &self.0
    }

    /// How many calls there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The milliseconds that this part of the calls took at most, as if those of a bucket lay evenly in it; `None` where
    /// there were no calls.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let all = self.count() as f64;
        let rank = (part * all).ceil().max(1.0).min(all);
        let mut before = 0.0;
        for (at, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if rank <= before + count {
                let within = (rank - before - 0.5) / count;
                let (low, high) = (lower(at), lower((at + 1).min(BUCKETS - 1)));
                return Some((low + (high - low) * within).round() as u64);
            }
            before += count;
        }
        None
    }
}

/// The bucket of a duration.
fn bucket(took: Duration) -> usize {
    let millis = took.as_secs_f64() * 1000.0;
    if millis < 1.0 {
        return 0;
    }
    let part = millis.ln() / LONGEST.ln();
    (1 + (part * (BUCKETS - 2) as f64) as usize).min(BUCKETS - 1)
}

/// Where a bucket begins, in milliseconds.
fn lower(bucket: usize) -> f64 {
    if bucket == 0 { 0.0 } else { (LONGEST.ln() * (bucket - 1) as f64 / (BUCKETS - 2) as f64).exp() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(millis: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        millis.iter().for_each(|millis| histogram.record(Duration::from_millis(*millis)));
        histogram
    }

    #[test]
    fn the_buckets_reach_from_a_millisecond_to_a_day() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_micros(999)), 0);
        assert_eq!(bucket(Duration::from_millis(1)), 1);
        assert_eq!(bucket(Duration::from_secs(86_399)), BUCKETS - 2);
        for long in [Duration::from_secs(86_401), Duration::MAX] {
            assert_eq!(bucket(long), BUCKETS - 1);
        }
    }

    #[test]
    fn of_no_calls_there_is_no_quantile_and_of_one_all_are_alike() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        let one = of(&[1000]);
        assert_eq!(one.quantile(0.5), one.quantile(0.95));
        assert!(one.quantile(0.5).is_some_and(|millis| (670..1500).contains(&millis)), "{:?}", one.quantile(0.5));
        assert_eq!(of(&[0, 0]).quantile(0.0), Some(0));
    }

    #[test]
    fn many_calls_of_a_bucket_lie_evenly_in_it() {
        let same = of(&[1000; 100]);
        let at = |part: f64| same.quantile(part).unwrap();
        assert!(at(0.01) < at(0.5) && at(0.5) < at(0.99));
        let middle = f64::midpoint(lower(bucket(Duration::from_secs(1))), lower(bucket(Duration::from_secs(1)) + 1));
        assert!((at(0.5) as f64 - middle).abs() < middle / 50.0, "{} and {middle}", at(0.5));
    }

    proptest! {
        #[test]
        fn a_duration_lies_in_its_bucket(millis in 0_u64..200_000_000) {
            let at = bucket(Duration::from_millis(millis));
            let near = 1e-9 * millis as f64;
            prop_assert!(lower(at) <= millis as f64 + near);
            prop_assert!(at == BUCKETS - 1 || millis as f64 <= lower(at + 1) + near);
        }

        #[test]
        fn a_quantile_is_within_the_bucket_of_the_true_one(
            mut millis in prop::collection::vec(1_u64..86_400_000, 1..200),
            part in 0.0..=1.0_f64,
        ) {
            let said = of(&millis).quantile(part).unwrap() as f64;
            millis.sort_unstable();
            let rank = (part * millis.len() as f64).ceil().max(1.0) as usize;
            let at = bucket(Duration::from_millis(millis[rank - 1]));
            // Rounded to whole milliseconds.
            prop_assert!(lower(at) - 0.5 <= said && said <= lower((at + 1).min(BUCKETS - 1)) + 0.5, "{said} of {at}");
        }

        #[test]
        fn what_is_added_counts_as_if_it_had_been_recorded(
            one in prop::collection::vec(0_u64..100_000_000, 0..50),
            two in prop::collection::vec(0_u64..100_000_000, 0..50),
        ) {
            let mut sum = of(&one);
            sum.add(of(&two).buckets());
            prop_assert_eq!(sum.count(), (one.len() + two.len()) as u64);
            let all: Vec<u64> = one.into_iter().chain(two).collect();
            prop_assert_eq!(sum, of(&all));
        }
    }
}
