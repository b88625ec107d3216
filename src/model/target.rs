//! The request target, and the query parameters that are ours.

use std::borrow::Cow;
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

/// The server's parameters in a target's query, decoded, in their order.
#[derive(Debug, Clone, Default)]
pub struct Given<'a>(Vec<(&'static str, Cow<'a, str>)>);

impl<'a> Given<'a> {
    /// Of this target, as sent.
    #[must_use]
    pub fn of(target: &'a str) -> Self {
        let ours = parameters(target).filter_map(|(_, parameter)| {
            let (name, value) = split(parameter);
            Some((ours(name)?, percent_decode_str(value).decode_utf8_lossy()))
        });
        Self(ours.collect())
    }

    /// What `bgrs` asks for.
    ///
    /// # Errors
    /// A value that is none of those that [`Asked`] names, or two that differ in meaning.
    pub fn asked(&self) -> Result<Asked, Error> {
        let mut asked = Asked::Nothing;
        for value in self.values("bgrs") {
            let is = |word: &str| value.eq_ignore_ascii_case(word);
            let this = match value {
                _ if is("yes") || is("1") || is("true") => Asked::Background,
                _ if is("no") || is("0") || is("false") => Asked::Foreground,
                _ if is("auto") => Asked::Auto,
                _ => return Err(Error::BadValue),
            };
            if asked != Asked::Nothing && asked != this {
                return Err(Error::Contradiction);
            }
            asked = this;
        }
        Ok(asked)
    }

    /// How long the call may take, by `bgrs_timeout`.
    ///
    /// # Errors
    /// [`Error::BadTimeout`].
    pub fn timeout(&self) -> Result<Option<Duration>, Error> {
        let mut values = self.values("bgrs_timeout");
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(text), None) => parse_timeout(text).map(Some),
            (Some(_), Some(_)) => Err(Error::BadTimeout),
        }
    }

    /// The values of `bgrs_callback`.
    pub fn callbacks(&self) -> impl Iterator<Item = &str> {
        self.values("bgrs_callback")
    }

    fn values(&self, wanted: &'static str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| &**value)
    }
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
pub fn strip(target: &str) -> Cow<'_, str> {
    let mut target = Cow::Borrowed(target);
    while let Some((start, end)) = first_of_ours(&target) {
        let range = if target.as_bytes().get(end) == Some(&b'&') {
            start..end + 1
        } else if target.as_bytes()[start - 1] == b'&' {
            start - 1..end
        } else {
            start..end
        };
        target.to_mut().replace_range(range, "");
        if target.ends_with('?') && target.find('?') == Some(target.len() - 1) {
            target.to_mut().pop();
        }
    }
    target
}

/// The path of a target: what stands before the query.
#[must_use]
pub fn path(target: &str) -> &str {
    &target[..mark(target)]
}

/// The query of a target, with its `?`; empty where there is none.
#[must_use]
pub fn query(target: &str) -> &str {
    &target[mark(target)..]
}

/// Where the query's mark is, or else the target's end.
fn mark(target: &str) -> usize {
    memchr::memchr(b'?', target.as_bytes()).unwrap_or(target.len())
}

/// Where the first of our parameters stands.
fn first_of_ours(target: &str) -> Option<(usize, usize)> {
    let (start, parameter) = parameters(target).find(|(_, parameter)| ours(split(parameter).0).is_some())?;
    Some((start, start + parameter.len()))
}

/// The parameters of the target's query with their offsets, as they were sent.
pub fn parameters(target: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = Some(mark(target) + 1).filter(|at| *at < target.len());
    std::iter::from_fn(move || {
        let start = next?;
        let rest = &target[start..];
        let end = memchr::memchr(b'&', rest.as_bytes());
        next = end.map(|end| start + end + 1);
        Some((start, &rest[..end.unwrap_or(rest.len())]))
    })
}

/// A parameter's name and value, as they were sent.
fn split(parameter: &str) -> (&str, &str) {
    match memchr::memchr(b'=', parameter.as_bytes()) {
        Some(at) => (&parameter[..at], &parameter[at + 1..]),
        None => (parameter, ""),
    }
}

/// Which of ours a parameter is, by its name as it was sent.
fn ours(name: &str) -> Option<&'static str> {
    // Most are somebody else's, and seen to be so by their first byte.
    if !matches!(name.as_bytes().first(), Some(b'b' | b'%')) {
        return None;
    }
    OURS.into_iter().find(|ours| percent_decode_str(name).eq(ours.bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(target: &str) -> Result<Asked, Error> {
        Given::of(target).asked()
    }

    fn timeout(target: &str) -> Result<Option<Duration>, Error> {
        Given::of(target).timeout()
    }

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
            prop_assume!(before.iter().chain(&after).all(|p| super::ours(split(p).0).is_none()));
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
            prop_assert_eq!(strip(&target), &*target);
        }

        #[test]
        fn nothing_is_left_to_strip_after_stripping(target in "/[ab]?\\?((bgrs=yes|bgrs|a=1|)&){0,5}(bgrs=no|b)?") {
            let once = strip(&target);
            prop_assert_eq!(asked(&once), Ok(Asked::Nothing));
            prop_assert_eq!(strip(&once), &*once);
        }
    }
}
