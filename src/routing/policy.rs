//! What holds for a call: which of the configuration's policies is the most specific, and what it says.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::Pattern;
use crate::model::target;

/// What a policy says of the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Never in the background, also where the caller asks.
    Never,
    /// Where the caller asks.
    Ask,
    /// In the background, but the answer is held for a while.
    Auto,
    /// In the background, unless the caller asks for the foreground.
    Always,
}

/// How often a call is made that an upstream did not answer, or answered with a status that says to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all.
    pub attempts: u32,
    /// The rest before the second attempt; it doubles with each.
    pub delay: Duration,
    /// Statuses that are not taken for an answer while there are attempts left.
    pub on: Vec<u16>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, delay: Duration::from_secs(1), on: Vec::new() }
    }
}

impl Retry {
    /// The longest rest between two attempts.
    const LONGEST: Duration = Duration::from_secs(60 * 60);

    /// The rest after so many attempts.
    #[must_use]
    pub fn rest_after(&self, attempts: u32) -> Duration {
        let doubled = 2_u32.checked_pow(attempts.saturating_sub(1)).and_then(|factor| self.delay.checked_mul(factor));
        doubled.unwrap_or(Self::LONGEST).min(Self::LONGEST.max(self.delay))
    }
}

/// One policy of the configuration.
#[derive(Debug, Clone)]
pub struct Route {
    /// The paths it holds for.
    pub path: Pattern,
    /// The methods it holds for; none: all.
    pub methods: Vec<String>,
    /// What it says.
    pub policy: Policy,
}

/// What holds for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether it may run in the background.
    pub mode: Mode,
    /// After how long without an answer a foreground call becomes a background request.
    pub rescue_after: Option<Duration>,
    /// The longest that it may take.
    pub timeout: Duration,
    /// How often it is tried.
    pub retry: Retry,
    /// Whether it is made again after a crash; `None`: by the method.
    pub repeat_after_crash: Option<bool>,
    /// Whether a JSON array that goes to an upstream is one call for each of its elements.
    pub batch: bool,
}

impl Policy {
    /// What holds where no policy says otherwise.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            mode: Mode::Ask,
            rescue_after: None,
            timeout,
            retry: Retry::default(),
            repeat_after_crash: None,
            batch: false,
        }
    }
}

/// All policies.
#[derive(Debug, Clone)]
pub struct Policies {
    routes: Arc<[Route]>,
    otherwise: Arc<Policy>,
    /// What the hosted API's newest version begins with (`/v2.5`).
    newest: Option<String>,
}

impl Policies {
    /// These policies, the most specific first; `otherwise` holds where none does.
    ///
    /// # Errors
    /// Two for the same path and method.
    pub fn new(mut routes: Vec<Route>, otherwise: Policy) -> Result<Self, String> {
        for (index, route) in routes.iter().enumerate() {
            let twice = |other: &&Route| other.path.is_same(&route.path) && other.shares_a_method(route);
            if let Some(other) = routes[..index].iter().find(twice) {
                return Err(format!("path {} is there twice for the same method, also as {}", route.path, other.path));
            }
        }
        routes
            .sort_by(|a, b| b.path.specificity(&a.path).then_with(|| a.methods.is_empty().cmp(&b.methods.is_empty())));
        Ok(Self { routes: routes.into(), otherwise: Arc::new(otherwise), newest: None })
    }

    /// For a server that hosts an API of these versions, the newest last.
    #[must_use]
    pub fn hosting(mut self, versions: &[&str]) -> Self {
        self.newest = versions.last().map(|version| format!("/v{version}"));
        self
    }

    /// What holds for a method and a target, as sent; `hosted`: one of the hosted API's.
    #[must_use]
    pub fn of(&self, method: &str, name: &str, hosted: bool) -> &Policy {
        self.route(method, name, hosted).map_or(&self.otherwise, |route| &route.policy)
    }

    /// The policy that holds, if one of the configuration's does. The hosted API's routes have two names, with the newest
    /// version and without one: what is said of either holds for both, the more specific first.
    #[must_use]
    pub fn route(&self, method: &str, name: &str, hosted: bool) -> Option<&Route> {
        if self.routes.is_empty() {
            return None;
        }
        let path = target::path(name);
        let find =
            |path: &str| self.routes.iter().position(|route| route.holds_for(method) && route.path.matches(path));
        let own = find(path);
        let Some(newest) = self.newest.as_deref().filter(|_| hosted) else { return Some(&self.routes[own?]) };
        let other = match path.strip_prefix(newest) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => find(rest),
            _ => find(&format!("{newest}{path}")),
        };
        // By the order that the routes are in, but that a version names nothing of a route. Of two that are alike the first,
        // whichever name was asked for.
        let order = |index: &usize| {
            let Route { path, methods, .. } = &self.routes[*index];
            (path.rank(path.matches_first(&newest[1..])), !methods.is_empty(), std::cmp::Reverse(*index))
        };
        own.into_iter().chain(other).max_by_key(order).map(|index| &self.routes[index])
    }
}

impl Route {
    fn holds_for(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|own| own == method)
    }

    /// Two lists for one path may overlap in nothing; a list beside none is more specific.
    fn shares_a_method(&self, other: &Self) -> bool {
        match (self.methods.as_slice(), other.methods.as_slice()) {
            ([], []) => true,
            (own, others) => own.iter().any(|method| others.contains(method)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str, methods: &[&str], seconds: u64) -> Route {
        Route {
            path: Pattern::try_from(path.to_owned()).unwrap(),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            policy: Policy::new(Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn the_most_specific_policy_holds() {
        let routes = vec![
            route("/a", &[], 1),
            route("/a/{x}", &[], 2),
            route("/a/b", &[], 3),
            route("/a/b", &["POST"], 4),
            route("/a/b", &["PUT", "PATCH"], 5),
        ];
        let policies = Policies::new(routes, Policy::new(Duration::from_secs(9))).unwrap();
        for (method, name, seconds) in [
            ("GET", "/x", 9),
            ("GET", "/a?b", 1),
            ("GET", "/a/x/y", 2),
            ("GET", "/a/b?c", 3),
            ("POST", "/a/b/c", 4),
            ("PATCH", "/a/b", 5),
            ("POST", "/a/c", 2),
        ] {
            assert_eq!(policies.of(method, name, false).timeout.as_secs(), seconds, "{method} {name}");
        }
    }

    #[test]
    fn a_hosted_route_has_one_policy_under_both_its_names() {
        let routes = vec![
            route("/", &[], 1),
            route("/v2.5/users", &[], 2),
            route("/users/me", &[], 3),
            route("/v1/x", &[], 4),
            route("/campaigns/{id}", &[], 5),
            route("/v2.5/campaigns/{id}", &["GET"], 6),
            route("/v2.5/scans/{id}", &[], 7),
            route("/scans/all", &[], 8),
        ];
        let policies = Policies::new(routes, Policy::new(Duration::from_secs(9))).unwrap().hosting(&["2.4", "2.5"]);
        for (name, hosted, seconds) in [
            ("/users?a", true, 2),
            ("/v2.5/users", true, 2),
            ("/users/7", true, 2),
            ("/users/me", true, 3),
            ("/v2.5/users/me", true, 3),
            ("/campaigns", true, 1),
            ("/v2.5", true, 1),
            ("/v2.50/users", true, 1),
            ("/users/7", false, 1),
            ("/v2.5/users/me", false, 2),
            ("/x", true, 1),
            ("/campaigns/7", true, 6),
            ("/v2.5/campaigns/7", true, 6),
            ("/scans/all", true, 8),
            ("/v2.5/scans/all", true, 8),
        ] {
            assert_eq!(policies.of("GET", name, hosted).timeout.as_secs(), seconds, "{name} {hosted}");
        }
    }

    #[test]
    fn two_policies_for_the_same_call_are_refused() {
        let policies = |a, b| Policies::new(vec![a, b], Policy::new(Duration::ZERO));
        assert!(policies(route("/a", &[], 1), route("/a/", &[], 2)).is_err());
        assert!(policies(route("/a", &["GET"], 1), route("/a", &["PUT", "GET"], 2)).is_err());
        assert!(policies(route("/a", &["GET"], 1), route("/a", &[], 2)).is_ok());
        assert!(policies(route("/{x}", &[], 1), route("/{y}", &[], 2)).is_err());
    }

    #[test]
    fn rests_double_up_to_an_hour() {
        let retry = Retry { delay: Duration::from_millis(500), ..Retry::default() };
        let rests: Vec<_> = (1..5).map(|attempts| retry.rest_after(attempts).as_millis()).collect();
        assert_eq!(rests, [500, 1000, 2000, 4000]);
        assert_eq!(retry.rest_after(60).as_secs(), 3600);
    }
}
