//! Which calls count as calls of the same route: those whose paths differ in what names a thing alone.

use crate::model::target;
use crate::store::OTHER;

/// The longest path that counts as a route.
const LONGEST: usize = 128;

/// So many hex digits with a decimal one among them are taken for a thing's name, not for a word.
const HEX: usize = 8;

/// What stands for a thing's name.
const THING: &str = "{}";

/// The route of a call: its path, less the numbers, UUIDs and hex digits in it.
#[must_use]
pub fn route(name: &str) -> String {
    let mut route = String::new();
    for (at, segment) in target::path(name).split('/').enumerate() {
        if at > 0 {
            route.push('/');
        }
        route.push_str(if is_thing(segment) { THING } else { segment });
        if route.len() > LONGEST {
            return OTHER.to_owned();
        }
    }
    route
}

/// Whether a segment names a thing.
fn is_thing(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_number = digits == segment.len() && digits > 0;
    let is_hex = digits > 0 && segment.len() >= HEX && segment.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_number || is_hex || is_uuid(segment)
}

/// RFC 9562, section 4: five groups of hex digits.
fn is_uuid(segment: &str) -> bool {
    let groups = segment.split('-').map(|group| (group.len(), group.bytes().all(|byte| byte.is_ascii_hexdigit())));
    groups.eq([8, 4, 4, 4, 12].map(|length| (length, true)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_uuids_and_hex_digits_are_things_and_words_are_not() {
        for (name, expected) in [
            ("/v2.5/users/me?bgrs=yes", "/v2.5/users/me"),
            ("/users/17/scans/4?x=/9", "/users/{}/scans/{}"),
            ("/a/4ff7cc2d88b1de88e83cce3f1caa1509/", "/a/{}/"),
            ("/a/0190163d-8694-739b-AEA5-966c26f8ad91", "/a/{}"),
            ("/a/deadbeef/facade/decade0", "/a/deadbeef/facade/decade0"),
            ("/a/deadbee1", "/a/{}"),
            ("/a/12b/1.5/-1", "/a/12b/1.5/-1"),
            ("/", "/"),
            ("//1", "//{}"),
        ] {
            assert_eq!(route(name), expected, "{name}");
        }
        assert_eq!(route(&format!("/{}", "x".repeat(LONGEST))), OTHER);
    }

    proptest! {
        #[test]
        fn a_route_is_its_own_route_and_never_long(name in "(/[a-f0-9-]{0,40}){1,8}") {
            let once = route(&name);
            prop_assert!(once.len() <= LONGEST);
            prop_assert!(once == OTHER || route(&once) == once, "{once}");
        }
    }
}
