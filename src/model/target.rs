//! The request target, and the one query parameter that is ours.

use std::time::Duration;

use percent_encoding::percent_decode_str;

/// Query parameters that are the server's.
const OURS: [&str; 3] = ["bgrs", "bgrs_timeout", "bgrs_callback"];

/// What a call asks of the background mechanism with its `bgrs` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: there is no such parameter.
    Nothing,
    /// `yes`, `1` or `true`.
    Background,
    /// `no`, `0` or `false`.
    Foreground,
    /// `auto`: in the background, but the answer is held for a while.
    Auto,
}

/// The `bgrs` parameter cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not one of the values that there are.
    #[error(
        "bgrs takes yes, 1 or true (background), no, 0 or false (foreground), or auto (the answer is held for a while)"
    )]
    BadValue,
    /// It stands there twice, and the two ask for different things.
    #[error("bgrs was given twice with different values: send it once")]
    Contradiction,
    /// No duration, or none that a call could take.
    #[error("bgrs_timeout takes a duration such as 90s or 20m, longer than nothing; send it once")]
    BadTimeout,
}

/// Reads what the target's query asks for.
///
/// # Errors
/// A value that is none of those above, or two that differ in meaning.
pub fn asked(target: &str) -> Result<Asked, Error> {
    let mut asked = Asked::Nothing;
    for value in values(target, "bgrs") {
        let this = match value.to_ascii_lowercase().as_str() {
            "yes" | "1" | "true" => Asked::Background,
            "no" | "0" | "false" => Asked::Foreground,
            "auto" => Asked::Auto,
            _ => return Err(Error::BadValue),
        };
        if asked != Asked::Nothing && asked != this {
            return Err(Error::Contradiction);
        }
        asked = this;
    }
    Ok(asked)
}

/// How long the call may take, by its target's `bgrs_timeout`.
///
/// # Errors
/// [`Error::BadTimeout`].
pub fn timeout(target: &str) -> Result<Option<Duration>, Error> {
    let mut values = values(target, "bgrs_timeout");
    let (first, second) = (values.next(), values.next());
    match (first, second) {
        (None, _) => Ok(None),
        (Some(text), None) => parse_timeout(&text).map(Some),
        (Some(_), Some(_)) => Err(Error::BadTimeout),
    }
}

/// The values of the target's `bgrs_callback`, decoded.
pub fn callbacks(target: &str) -> impl Iterator<Item = String> + '_ {
    values(target, "bgrs_callback")
}

/// Reads such a duration.
///
/// # Errors
/// [`Error::BadTimeout`].
pub fn parse_timeout(text: &str) -> Result<Duration, Error> {
    let limit = humantime::parse_duration(text.trim()).map_err(|_| Error::BadTimeout)?;
    if limit < Duration::from_millis(1) { Err(Error::BadTimeout) } else { Ok(limit) }
}

/// The target without the server's parameters: with each goes the one `&` that follows it, or else the one before it,
/// and the `?` where nothing is left. Every other byte stays.
#[must_use]
pub fn strip(target: &str) -> String {
    let mut target = target.to_owned();
    while let Some((start, end)) = ours(&target) {
        let range = if target.as_bytes().get(end) == Some(&b'&') {
            start..end + 1
        } else if target.as_bytes()[start - 1] == b'&' {
            start - 1..end
        } else {
            start..end
        };
        target.replace_range(range, "");
        if target.ends_with('?') && target.find('?') == Some(target.len() - 1) {
            target.pop();
        }
    }
    target
}

/// The path of a target: what stands before the query.
#[must_use]
pub fn path(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// The decoded values of a parameter.
fn values<'a>(target: &'a str, wanted: &'static str) -> impl Iterator<Item = String> + 'a {
    parameters(target).filter_map(move |(_, parameter)| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        percent_decode_str(name).eq(wanted.bytes()).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

/// Where the first of our parameters stands.
fn ours(target: &str) -> Option<(usize, usize)> {
    let (start, parameter) = parameters(target).find(|(_, parameter)| is_ours(parameter))?;
    Some((start, start + parameter.len()))
}

/// The parameters of the target's query with their offsets, as they were sent.
fn parameters(target: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = target.find('?').map_or(target.len(), |mark| mark + 1);
    let query = target.get(at..).filter(|query| !query.is_empty());
    query.into_iter().flat_map(|query| query.split('&')).map(move |parameter| {
        let start = at;
        at += parameter.len() + 1;
        (start, parameter)
    })
}

fn is_ours(parameter: &str) -> bool {
    let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
    OURS.iter().any(|ours| percent_decode_str(name).eq(ours.bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_parameter_goes_with_the_ampersand_that_follows_or_else_the_one_before() {
        for (sent, left) in [
            ("/a?bgrs=yes", "/a"),
            ("/a?bgrs=yes&b=2", "/a?b=2"),
            ("/a?b=2&bgrs=yes", "/a?b=2"),
            ("/a?b=2&bgrs=yes&c=3", "/a?b=2&c=3"),
            ("/a?bgrs=1&bgrs=yes", "/a"),
            ("/a?&bgrs=1", "/a"),
            ("/a?bgrs=1&", "/a"),
            ("/a?x&&bgrs=1&&y", "/a?x&&&y"),
            ("/a?%62grs=yes&x=%20+", "/a?x=%20+"),
            ("/a?BGRS=yes", "/a?BGRS=yes"),
            ("/a?xbgrs=1&bgrsx=1", "/a?xbgrs=1&bgrsx=1"),
            ("/a?q=?bgrs=1", "/a?q=?bgrs=1"),
            ("/a?", "/a?"),
            ("/bgrs=yes", "/bgrs=yes"),
            ("/a?b=?&bgrs=yes", "/a?b=?"),
            ("/a?bgrs=1&bgrs_timeout=9s&b=2", "/a?b=2"),
            ("/a?bgrs_timeou=1", "/a?bgrs_timeou=1"),
            ("/a?x=1&bgrs_callback=https://b/?c=%26&bgrs=1", "/a?x=1"),
        ] {
            assert_eq!(strip(sent), left, "{sent}");
        }
    }

    #[test]
    fn a_timeout_is_a_duration_and_is_there_once() {
        assert_eq!(timeout("/a?bgrs_timeout=1m%2030s"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(timeout("/a?x=1"), Ok(None));
        for sent in ["/a?bgrs_timeout", "/a?bgrs_timeout=0s", "/a?bgrs_timeout=9", "/a?bgrs_timeout=9s&bgrs_timeout=9s"]
        {
            assert_eq!(timeout(sent), Err(Error::BadTimeout), "{sent}");
        }
    }

    #[test]
    fn values_are_matched_without_regard_to_case_and_the_name_exactly() {
        for sent in
            ["/a?bgrs=yes", "/a?bgrs=YES", "/a?bgrs=1", "/a?bgrs=True", "/a?%62%67rs=y%65s", "/a?bgrs=1&bgrs=yes"]
        {
            assert_eq!(asked(sent), Ok(Asked::Background), "{sent}");
        }
        for sent in ["/a?bgrs=no", "/a?x=1&bgrs=0", "/a?bgrs=FALSE"] {
            assert_eq!(asked(sent), Ok(Asked::Foreground), "{sent}");
        }
        for sent in ["/a", "/a?", "/a?BGRS=yes", "/a?x=bgrs=yes", "/bgrs=yes"] {
            assert_eq!(asked(sent), Ok(Asked::Nothing), "{sent}");
        }
        for sent in ["/a?bgrs", "/a?bgrs=", "/a?bgrs=maybe", "/a?bgrs=yes%20", "/a?bgrs=auto1", "/a?bgrs=yes&bgrs="] {
            assert_eq!(asked(sent), Err(Error::BadValue), "{sent}");
        }
        assert_eq!(asked("/a?bgrs=Auto&bgrs=auto"), Ok(Asked::Auto));
        assert_eq!(asked("/a?bgrs=yes&bgrs=no"), Err(Error::Contradiction));
    }

    proptest! {
        #[test]
        fn every_other_byte_stays_as_it_was_sent(
            before in prop::collection::vec("[a-z%0-9=+;?/]{0,6}", 0..4),
            after in prop::collection::vec("[a-z%0-9=+;?/]{0,6}", 0..4),
            ours in prop::sample::select(vec!["bgrs=yes", "bgrs=1", "%62grs=no", "bgrs", "bgrs="]),
        ) {
            prop_assume!(before.iter().chain(&after).all(|p| !is_ours(p)));
            let mut all = before.clone();
            all.push(ours.to_owned());
            all.extend(after.clone());
            let sent = format!("/p?{}", all.join("&"));
            let rest: Vec<_> = before.into_iter().chain(after).collect();
            let expected = if rest.concat().is_empty() && rest.len() <= 1 {
                "/p".to_owned()
            } else {
                format!("/p?{}", rest.join("&"))
            };
            prop_assert_eq!(strip(&sent), expected);
        }

        #[test]
        fn a_target_without_the_parameter_is_left_alone(target in "/[ -~]{0,40}") {
            prop_assume!(asked(&target) == Ok(Asked::Nothing));
            prop_assert_eq!(strip(&target), target);
        }

        #[test]
        fn nothing_is_left_to_strip_after_stripping(target in "/[ab]?\\?((bgrs=yes|bgrs|a=1|)&){0,5}(bgrs=no|b)?") {
            let once = strip(&target);
            prop_assert_eq!(asked(&once), Ok(Asked::Nothing));
            prop_assert_eq!(strip(&once), once);
        }
    }
}
