//! `Prefer` (RFC 7240): what a caller would rather have.

/// The two preferences that are honoured here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Preferences {
    /// `respond-async` (section 4.1).
    pub respond_async: bool,
    /// `wait`, in seconds (section 4.3).
    pub wait: Option<u64>,
}

impl Preferences {
    /// Reads the values of all `Prefer` fields. Of a preference that comes twice the first counts (section 2); what
    /// cannot be understood is passed over, since a preference is no demand.
    pub fn read<'a>(fields: impl Iterator<Item = &'a str>) -> Self {
        let (mut preferences, mut waited) = (Self::default(), false);
        for preference in fields.flat_map(|field| split(field, ',')) {
            let (name, value) = named(preference);
            if name.eq_ignore_ascii_case("respond-async") {
                preferences.respond_async = true;
            } else if name.eq_ignore_ascii_case("wait") && !waited {
                waited = true;
                preferences.wait = seconds(value);
            }
        }
        preferences
    }
}

/// The fields without those two: they are not the API's to honour a second time. `None` where nothing is left.
pub fn others<'a>(fields: impl Iterator<Item = &'a str>) -> Option<String> {
    let ours = |preference: &&str| {
        let (name, _) = named(preference);
        name.is_empty() || name.eq_ignore_ascii_case("respond-async") || name.eq_ignore_ascii_case("wait")
    };
    let left: Vec<_> = fields.flat_map(|field| split(field, ',')).filter(|one| !ours(one)).map(str::trim).collect();
    (!left.is_empty()).then(|| left.join(", "))
}

/// Name and value of a preference, less its parameters.
fn named(preference: &str) -> (&str, &str) {
    let preference = split(preference, ';').next().unwrap_or_default();
    let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
    (name.trim(), value.trim())
}

fn seconds(value: &str) -> Option<u64> {
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a number holds are longer than any wait, too.
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

/// The parts between a separator, where it does not stand in a quoted string (RFC 9110 section 5.6.4).
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        let inside = quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == separator && !inside
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_of_each_preference_counts_and_the_rest_is_passed_over() {
        let read = |fields: &[&str]| {
            let Preferences { respond_async, wait } = Preferences::read(fields.iter().copied());
            (respond_async, wait)
        };
        assert_eq!(read(&["respond-async"]), (true, None));
        assert_eq!(read(&["Respond-Async , WAIT = 5"]), (true, Some(5)));
        assert_eq!(read(&["wait=\"7\"", "respond-async; foo=\"a,b;c\", wait=9"]), (true, Some(7)));
        assert_eq!(read(&["x=\"respond-async, wait=1\"; y", ""]), (false, None));
        assert_eq!(read(&["respond-async, wait=x, wait=3"]), (true, None));
        assert_eq!(read(&["return=minimal, wait=99999999999999999999999"]), (false, Some(u64::MAX)));
    }

    #[test]
    fn the_others_are_left_as_they_were_sent() {
        let left = |field| others(std::iter::once(field));
        assert_eq!(left("respond-async, wait=5"), None);
        assert_eq!(
            left("return=minimal; a=\"b,c\", respond-async,handling=lenient").as_deref(),
            Some("return=minimal; a=\"b,c\", handling=lenient")
        );
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_and_what_is_left_asks_for_neither(text in "[ -~]{0,60}") {
            let _ = Preferences::read(std::iter::once(text.as_str()));
            let left = others(std::iter::once(text.as_str())).unwrap_or_default();
            prop_assert_eq!(Preferences::read(std::iter::once(left.as_str())), Preferences::default());
        }
    }
}
