//! The request target, and the one query parameter that is ours.

use percent_encoding::percent_decode_str;

/// What a call asks of the background mechanism with its `bgrs` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: there is no such parameter.
    Nothing,
    /// `yes`, `1` or `true`.
    Background,
    /// `no`, `0` or `false`.
    Foreground,
}

/// The `bgrs` parameter cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not one of the values that there are.
    #[error("bgrs takes yes, 1 or true (background), or no, 0 or false (foreground)")]
    BadValue,
    /// It stands there twice, and the two ask for different things.
    #[error("bgrs was given twice with different values: send it once")]
    Contradiction,
}

/// Reads what the target's query asks for.
///
/// # Errors
/// A value that is none of those above, or two that differ in meaning.
pub fn asked(target: &str) -> Result<Asked, Error> {
    let mut asked = Asked::Nothing;
    for (_, parameter) in parameters(target).filter(|(_, p)| is_ours(p)) {
        let value = parameter.split_once('=').map_or("", |(_, value)| value);
        let value = percent_decode_str(value).decode_utf8_lossy().to_ascii_lowercase();
        let this = match value.as_str() {
            "yes" | "1" | "true" => Asked::Background,
            "no" | "0" | "false" => Asked::Foreground,
            _ => return Err(Error::BadValue),
        };
        if asked != Asked::Nothing && asked != this {
            return Err(Error::Contradiction);
        }
        asked = this;
    }
    Ok(asked)
}

/// The target without the `bgrs` parameter: with it goes the one `&` that follows it, or else the one before it,
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
    percent_decode_str(name).eq("bgrs".bytes())
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
        ] {
            assert_eq!(strip(sent), left, "{sent}");
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
        for sent in ["/a?bgrs", "/a?bgrs=", "/a?bgrs=maybe", "/a?bgrs=yes%20", "/a?bgrs=auto", "/a?bgrs=yes&bgrs="] {
            assert_eq!(asked(sent), Err(Error::BadValue), "{sent}");
        }
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
