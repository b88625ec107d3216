//! `bgrs-server check --explain`: which rule holds for a call and what it means, in an operator's words.

use actix_web::http::Uri;
use bgrs::dispatch::upstream;
use bgrs::http::place::{self, Place};
use bgrs::model::target::{self, Asked, Given};
use bgrs::model::{Headers, is_idempotent};
use bgrs::routing::{Auth, Mode, Policy, Route, Upstream, path};
use bgrs::webhooks::{Allow, Callback};
use bgrs::{Config, api};
use humantime::format_duration;

/// A call as an operator names it.
#[derive(Debug)]
pub struct Call {
    /// In upper case.
    pub method: String,
    /// Path and query as they would be sent.
    pub target: String,
    /// The same, parsed.
    pub uri: Uri,
}

/// How the server's router sees a call.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The path, percent-decoded where that is safe.
    pub path: String,
    /// The hosted API's route that it is.
    pub route: Option<String>,
}

impl Call {
    /// Reads METHOD and PATH.
    pub fn parse(method: &str, target: &str) -> Result<Self, String> {
        let method = method.to_ascii_uppercase();
        if http::Method::from_bytes(method.as_bytes()).is_err() {
            return Err(format!("--explain: {method:?} is not a method such as GET"));
        }
        let uri = target.parse::<Uri>().ok().filter(|_| target.starts_with('/') && !target.contains('#'));
        let uri = uri.ok_or_else(|| format!("--explain: {target:?} is not a path such as \"/users/me?t=csv\""))?;
        Ok(Self { method, target: target.to_owned(), uri })
    }
}

/// What holds for a call, line by line.
pub fn lines(config: &Config, call: &Call, seen: &Seen) -> Vec<String> {
    let mut lines = vec![format!("{} {}", call.method, call.target)];
    if call.method == "CONNECT" {
        lines.push("It is refused with 400: the server opens no connections for others.".to_owned());
        return lines;
    }
    let own = match place::of(&seen.path, &config.server.mount) {
        Place::Open => Some("It is one of the server's own routes, open without credentials."),
        Place::Own => Some("It is one of the server's own routes, or kept for one; it wants credentials."),
        Place::Report => Some("It is where upstreams report their progress, with the request's token."),
        Place::Api => None,
    };
    if let Some(own) = own {
        lines.push(format!("{own} No [[route]] holds for it, and bgrs means nothing there."));
        return lines;
    }
    let behind = config.upstreams.of(target::path(&call.target)).map(|upstream| &**upstream);
    // What the server hosts itself goes first.
    let behind = behind.filter(|_| seen.route.is_none());
    match (&seen.route, behind) {
        (Some(route), _) => {
            lines.push(format!("It is the hosted API's {route}. A method that it does not know there gets 405."));
        }
        (None, Some(upstream)) => match at_upstream(upstream, &call.target) {
            Ok(where_to) => lines.extend(where_to),
            Err(refused) => {
                lines.push(refused);
                return lines;
            }
        },
        (None, None) => {
            let hosted = if config.server.hosted_api { "the hosted API has no such route" } else { "no API is hosted" };
            lines.push(format!("It is nobody's: {hosted}, and no upstream has this path. It gets 404."));
            return lines;
        }
    }
    let policies = config.policies.clone().hosting(api::VERSIONS);
    let policy = policies.of(&call.method, &call.target, seen.route.is_some());
    lines.push(holds(policies.route(&call.method, &call.target, seen.route.is_some())));
    let rules = Rules { config, policy, method: &call.method, at_upstream: behind.is_some() };
    lines.extend(rules.lines().into_iter().map(|line| format!("  {line}")));
    lines.extend(rules.of_this_call(&call.target));
    lines
}

/// Where an upstream gets a call, and from whom; or why it does not.
fn at_upstream(upstream: &Upstream, sent: &str) -> Result<[String; 2], String> {
    let prefix = &upstream.prefix;
    if path::climbs(target::path(sent)) {
        return Err(format!("It is the upstream {prefix}'s, but its path has a .. segment: it is refused with 400."));
    }
    let url = upstream::uri(upstream, &target::strip(sent))
        .map_err(|_| format!("It is the upstream {prefix}'s, but it is malformed: it is refused with 400."))?;
    let who = match &upstream.auth {
        Auth::Local => {
            "Who calls is one of the server's own users (auth = \"local\"); Authorization is not passed on.".to_owned()
        }
        Auth::Forward { check, ttl, .. } => format!(
            "Who calls is somebody whom the upstream knows (auth = \"forward\"): it is asked at {check}, a yes is \
             remembered for {}, and the credentials are passed on.",
            format_duration(*ttl)
        ),
    };
    Ok([format!("It goes to the upstream {prefix}, to {url}."), who])
}

fn holds(route: Option<&Route>) -> String {
    match route {
        None => "No [[route]] holds for it; the defaults do:".to_owned(),
        Some(Route { path, methods, .. }) if methods.is_empty() => {
            format!("The [[route]] with path = \"{path}\" and all methods holds for it:")
        }
        Some(Route { path, methods, .. }) => {
            format!("The [[route]] with path = \"{path}\" and methods = {methods:?} holds for it:")
        }
    }
}

/// What holds for a call that is somebody's.
struct Rules<'a> {
    config: &'a Config,
    policy: &'a Policy,
    method: &'a str,
    at_upstream: bool,
}

impl Rules<'_> {
    fn lines(&self) -> Vec<String> {
        if self.is_odd() {
            return vec![self.background(), self.timeout()];
        }
        let mut lines = vec![self.background(), self.rescue(), self.timeout()];
        if self.at_upstream {
            lines.push(self.retry());
        }
        lines.push(self.crash());
        lines.extend(self.batch());
        lines
    }

    /// Whether it never runs in the background, whatever the policy says.
    fn is_odd(&self) -> bool {
        matches!(self.method, "OPTIONS" | "TRACE" | "CONNECT")
    }

    fn is_safe(&self) -> bool {
        is_idempotent(self.method, &Headers::default())
    }

    fn background(&self) -> String {
        let wait = format_duration(self.config.background.auto_wait);
        match (self.policy.mode, self.method) {
            (_, "OPTIONS") => "bgrs means nothing with OPTIONS: it is a foreground call".to_owned(),
            (_, "TRACE" | "CONNECT") => {
                format!("{} is always a foreground call; one that asks for the background gets 400", self.method)
            }
            (Mode::Never, _) => {
                "bgrs = \"never\": it is a foreground call; one that asks for the background gets 400".to_owned()
            }
            (Mode::Ask, _) => {
                "bgrs = \"ask\": it is a foreground call, and a background request where it asks for it (bgrs=yes)"
                    .to_owned()
            }
            (Mode::Auto, _) => format!(
                "bgrs = \"auto\": it is a background request; what has ended within {wait} (background.auto_wait) is \
                 answered with the result itself, the rest with 202; bgrs=no makes it a foreground call"
            ),
            (Mode::Always, _) => {
                "bgrs = \"always\": it is a background request and gets 202; bgrs=no makes it a foreground call"
                    .to_owned()
            }
        }
    }

    fn is_rescued(&self) -> bool {
        self.at_upstream && self.policy.mode == Mode::Ask
    }

    fn rescue(&self) -> String {
        match self.policy.rescue_after.map(format_duration) {
            None => "rescue_after is not set: a slow foreground call stays one".to_owned(),
            Some(after) if self.is_rescued() => format!(
                "rescue_after = \"{after}\": a foreground call that the upstream has not begun to answer by then \
                 becomes a background request and gets 202, unless it came with bgrs=no"
            ),
            Some(_) if !self.at_upstream => {
                "rescue_after has no effect: the hosted API's calls are not rescued".to_owned()
            }
            Some(_) => "rescue_after has no effect: only a call that may run either way is rescued".to_owned(),
        }
    }

    fn timeout(&self) -> String {
        let limit = format_duration(self.policy.timeout);
        if self.at_upstream {
            return format!(
                "timeout = \"{limit}\": a foreground call that takes longer gets 504, a background request fails \
                 (504 on its result); Bgrs-Timeout or bgrs_timeout may ask for less"
            );
        }
        format!("timeout = \"{limit}\": a background request that takes longer fails (504 on its result)")
    }

    fn retry(&self) -> String {
        let retry = &self.policy.retry;
        if retry.attempts == 1 {
            return "retry.attempts = 1: in the background, it is tried once".to_owned();
        }
        let (attempts, delay) = (retry.attempts, format_duration(retry.delay));
        let whether = if self.is_safe() {
            format!("{} is tried {attempts} times in all", self.method)
        } else {
            format!("{} is tried once, or {attempts} times in all with an Idempotency-Key,", self.method)
        };
        let listed: String = retry.on.iter().map(|status| format!(", or {status} (retry.on)")).collect();
        format!(
            "retry: in the background, {whether} where the upstream cannot be reached, breaks off before it answers, \
             or answers 429 or 503 with Retry-After{listed}; after {delay} (retry.delay), and twice as long each time"
        )
    }

    fn crash(&self) -> String {
        let times = format!("{} times in all (background.attempts)", self.config.background.attempts);
        let what = match self.policy.repeat_after_crash {
            Some(true) => format!("repeat_after_crash = true: what a crash interrupts is made again, {times}"),
            Some(false) => "repeat_after_crash = false: what a crash interrupts has failed".to_owned(),
            None if self.is_safe() => format!(
                "repeat_after_crash is not set, and {} is safe to repeat: what a crash interrupts is made again, \
                 {times}",
                self.method
            ),
            None => format!(
                "repeat_after_crash is not set, and {} is not safe to repeat: what a crash interrupts has failed, \
                 unless it has an Idempotency-Key",
                self.method
            ),
        };
        if self.policy.rescue_after.is_some() && self.is_rescued() {
            return what + "; a rescued one with a body is not made again: its body was not stored";
        }
        what
    }

    fn batch(&self) -> Option<String> {
        if !matches!(self.method, "POST" | "PUT" | "DELETE") {
            return None;
        }
        Some(match (self.at_upstream, self.policy.batch) {
            (false, _) => "a JSON array on a collection is one call for each element, whatever batch says".to_owned(),
            (true, false) => "batch = false: a JSON array is passed on as it is".to_owned(),
            (true, true) => "batch = true: a JSON array is one call for each element".to_owned(),
        })
    }

    /// What the call's own query makes of it.
    fn of_this_call(&self, sent: &str) -> Option<String> {
        if self.method == "OPTIONS" {
            return None;
        }
        let refused = |why: &dyn std::fmt::Display| Some(format!("This call gets 400: {why}."));
        let given = Given::of(sent);
        let limit = match given.timeout() {
            Ok(limit) => limit.map(|limit| format_duration(limit.min(self.policy.timeout))),
            Err(why) => return refused(&why),
        };
        let asked = match given.asked() {
            Ok(Asked::Nothing) => None,
            Ok(Asked::Foreground) => Some("asks for the foreground"),
            Ok(_) if self.is_odd() || self.policy.mode == Mode::Never => {
                return refused(&"it asks for the background, where it never runs");
            }
            Ok(_) => Some("asks for the background"),
            Err(why) => return refused(&why),
        };
        let allow = Allow::from(self.config.webhooks.allow.clone());
        for url in given.callbacks() {
            if let Err(why) = Callback::parse(url, &allow) {
                return refused(&why.to_string().trim_end_matches('.'));
            }
        }
        let limit = limit.map(|limit| format!("may take {limit}"));
        let said: Vec<String> = asked.map(str::to_owned).into_iter().chain(limit).collect();
        (!said.is_empty()).then(|| format!("This call {}.", said.join(" and ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(text: &str, method: &str, target: &str, route: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bgrs.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(Some(&file), std::iter::empty()).unwrap();
        let call = Call::parse(method, target).unwrap();
        let seen = Seen { path: target::path(target).to_owned(), route: route.map(str::to_owned) };
        lines(&config, &call, &seen).join("\n")
    }

    #[test]
    fn a_method_is_a_token_and_a_path_begins_with_a_slash() {
        let call = Call::parse("get", "/a%2Fb?c=%20").unwrap();
        assert_eq!((call.method.as_str(), call.target.as_str()), ("GET", "/a%2Fb?c=%20"));
        for (method, path) in [("", "/"), ("G T", "/"), ("GET", ""), ("GET", "a"), ("GET", "/a b"), ("GET", "/a#b")] {
            assert!(Call::parse(method, path).is_err(), "{method} {path}");
        }
    }

    #[test]
    fn without_a_route_the_defaults_hold() {
        let text = "[[upstream]]\nprefix = \"/up\"\nurl = \"http://127.0.0.1:9000/base\"\n";
        let said = explained(text, "GET", "/up/x?a=1&bgrs=yes", None);
        for part in [
            "to the upstream /up, to http://127.0.0.1:9000/base/up/x?a=1.",
            "No [[route]] holds",
            "bgrs = \"ask\"",
            "rescue_after is not set",
            "timeout = \"6h\"",
            "GET is tried 3 times in all",
            "GET is safe to repeat",
            "This call asks for the background.",
        ] {
            assert!(said.contains(part), "{part} in\n{said}");
        }
        let said = explained(text, "POST", "/up/x?bgrs_timeout=90s", None);
        for part in ["POST is tried once", "POST is not safe", "batch = false", "This call may take 1m 30s."] {
            assert!(said.contains(part), "{part} in\n{said}");
        }
    }

    #[test]
    fn what_has_no_effect_is_said_to_have_none() {
        let text = "[[upstream]]\nprefix = \"/up\"\nurl = \"http://127.0.0.1:9000\"\n\
                    [[route]]\npath = \"/\"\nbgrs = \"never\"\nrescue_after = \"9s\"\n";
        for (path, route, part) in [
            ("/up", None, "rescue_after has no effect: only a call"),
            ("/users", Some("/users"), "rescue_after has no effect: the hosted"),
            ("/up?bgrs=1", None, "This call gets 400: it asks for the background"),
            ("/up?bgrs=maybe", None, "This call gets 400: bgrs takes"),
        ] {
            let said = explained(text, "GET", path, route);
            assert!(said.contains(part), "{part} in\n{said}");
        }
        assert!(
            explained(text, "CONNECT", "/up/x", None)
                .ends_with("It is refused with 400: the server opens no connections for others.")
        );
        let said = explained(text, "GET", "/up/x?bgrs=yes&bgrs_callback=http://127.0.0.1/", None);
        assert!(said.contains("This call gets 400: "), "{said}");
        assert!(explained(text, "OPTIONS", "/up?bgrs=1", None).contains("bgrs means nothing with OPTIONS"));
        assert!(!explained(text, "OPTIONS", "/up?bgrs=1", None).contains("This call"));
    }
}
