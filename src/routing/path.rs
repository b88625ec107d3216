//! A request's path, as sent, by segments.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The segments behind the first slash, percent-decoded one by one: an encoded slash does not split.
pub fn segments(path: &str) -> impl Iterator<Item = Cow<'_, str>> + Clone {
    path.strip_prefix('/').unwrap_or(path).split('/').map(|segment| match memchr::memchr(b'%', segment.as_bytes()) {
        None => Cow::Borrowed(segment),
        Some(_) => percent_decode_str(segment).decode_utf8_lossy(),
    })
}

/// Whether somebody who decodes it once more, or takes `\` for `/`, would climb out of a folder.
#[must_use]
pub fn climbs(path: &str) -> bool {
    // Most paths have neither two dots nor what could stand for one.
    if memchr::memchr(b'%', path.as_bytes()).is_none() && !path.as_bytes().windows(2).any(|two| two == b"..") {
        return false;
    }
    segments(path).any(|segment| {
        segment.split(['/', '\\']).any(|part| {
            // `..;x` is `..` with a parameter to some servers.
            part.split(';').next() == Some("..")
        })
    })
}

/// The path without its first `count` segments, every other byte as it was sent; with a slash in front.
#[must_use]
pub fn without(path: &str, count: usize) -> &str {
    let mut rest = path;
    for _ in 0..count {
        rest = rest.get(1..).and_then(|inner| inner.find('/')).and_then(|at| rest.get(at + 1..)).unwrap_or("");
    }
    if rest.is_empty() { "/" } else { rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_climbs_in_any_spelling_is_seen() {
        for path in ["/a/../b", "/..", "/a/%2e%2e/b", "/a/.%2E", "/a/..%2fb", "/a/x%2F..", "/a/..%5cb", "/a/..;x/b"] {
            assert!(climbs(path), "{path}");
        }
        for path in ["/", "/a/...", "/a/..b", "/a/.", "/a//b", "/a/%252e%252e/b", "/a?/../b".split('?').next().unwrap()]
        {
            assert!(!climbs(path), "{path}");
        }
    }

    #[test]
    fn the_first_segments_are_taken_off_and_nothing_else_is_touched() {
        for (path, count, left) in [
            ("/up/a%2Fb//c", 1, "/a%2Fb//c"),
            ("/up", 1, "/"),
            ("/up/", 1, "/"),
            ("/a/b/c", 2, "/c"),
            ("/a/b", 0, "/a/b"),
            ("/", 0, "/"),
        ] {
            assert_eq!(without(path, count), left, "{path}");
        }
    }
}
