//! The state machine of a background request.
//!
//! ```text
//!            claim             answer
//!  queued ──────────▶ running ────────▶ finished ──▶ failed (its file was lost)
//!    │  ▲ release,     │ │ │ no answer
//!    │  │ rescue       │ │ └───────────▶ failed
//!    │  └──────────────┘ │ try again
//!    │                   ▼
//!    │                retrying ────────▶ running
//!    └──────────────────┴─(all three)──▶ cancelled
//! ```

/// Where a background request stands. The numbers are `status_id` in the HTTP interface and in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Stored, waiting for a worker.
    Queued = 1,
    /// A worker has it.
    Running = 2,
    /// An attempt failed, another is due.
    Retrying = 3,
    /// The API answered, whatever its HTTP status.
    Finished = 4,
    /// No answer could be had; the last detail says why.
    Failed = 5,
    /// A caller cancelled it.
    Cancelled = 6,
}

impl State {
    /// All states, in the order of their ids.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Retrying, Self::Finished, Self::Failed, Self::Cancelled];

    /// The `status_id`.
    #[must_use]
    pub const fn id(self) -> i64 {
        self as i64
    }

    /// The state with that `status_id`.
    #[must_use]
    pub fn from_id(id: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.id() == id)
    }

    /// The `status_name`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will run any more.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled)
    }

    /// Whether a request may go from this state to `next`.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(next, Self::Running | Self::Cancelled),
            Self::Running => !matches!(next, Self::Running),
            Self::Retrying => matches!(next, Self::Running | Self::Cancelled),
            // Someone took the result's file away: the row must not go on promising it.
            Self::Finished => matches!(next, Self::Failed),
            Self::Failed | Self::Cancelled => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_state() -> impl Strategy<Value = State> {
        prop::sample::select(State::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn what_has_ended_never_runs_again(walk in prop::collection::vec(any_state(), 1..40)) {
            let mut now = State::Queued;
            let mut ended = false;
            for next in walk {
                if now.may_become(next) {
                    now = next;
                    ended |= now.has_ended();
                    prop_assert!(!ended || now.has_ended());
                }
            }
        }

        #[test]
        fn ids_and_states_are_one_to_one(id in -10_i64..20) {
            match State::from_id(id) {
                Some(state) => prop_assert_eq!(state.id(), id),
                None => prop_assert!(!(1..=6).contains(&id)),
            }
        }
    }

    #[test]
    fn every_state_can_be_reached_from_queued() {
        let mut reached = vec![State::Queued];
        let mut grew = true;
        while grew {
            let next: Vec<_> = State::ALL
                .into_iter()
                .filter(|s| !reached.contains(s) && reached.iter().any(|r| r.may_become(*s)))
                .collect();
            grew = !next.is_empty();
            reached.extend(next);
        }
        assert_eq!(reached.len(), State::ALL.len());
    }
}
