//! The path of a policy: a prefix of whole segments, some of which may be `{placeholders}`.

use std::cmp::Ordering;
use std::fmt;

use serde::Deserialize;

use super::path;

/// A path that holds for everything below it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Placeholder,
}

impl Pattern {
    /// Whether a path, as sent, is the pattern's or below it.
    #[must_use]
    pub fn matches(&self, sent: &str) -> bool {
        let mut segments = path::segments(sent);
        self.segments.iter().all(|wanted| match (wanted, segments.next()) {
            (Segment::Literal(wanted), Some(segment)) => *wanted == segment,
            (Segment::Placeholder, Some(segment)) => !segment.is_empty(),
            (_, None) => false,
        })
    }

    /// Whether its first segment is this one.
    #[must_use]
    pub fn matches_first(&self, segment: &str) -> bool {
        matches!(self.segments.first(), Some(Segment::Literal(first)) if first == segment)
    }

    /// How many segments it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether it is `/`: everything is below it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether it has a placeholder.
    #[must_use]
    pub fn has_placeholder(&self) -> bool {
        self.segments.contains(&Segment::Placeholder)
    }

    /// `Greater` where this one is more specific than the other: it has more segments, or as many and the first that is
    /// literal where the other's is a placeholder.
    #[must_use]
    pub fn specificity(&self, other: &Self) -> Ordering {
        self.rank(false).cmp(&other.rank(false))
    }

    /// What [`Pattern::specificity`] compares, of the whole pattern or of what is behind its first segment.
    #[must_use]
    pub fn rank(&self, behind_first: bool) -> (usize, Vec<bool>) {
        let segments = self.segments.iter().skip(usize::from(behind_first));
        let literal: Vec<bool> = segments.map(|segment| matches!(segment, Segment::Literal(_))).collect();
        (literal.len(), literal)
    }

    /// Whether the two match the same paths.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.segments == other.segments
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.starts_with('/') || text.contains(['?', '#']) || path::climbs(&text) {
            return Err(format!("{text:?} is not a path such as \"/reports\" or \"/users/{{id}}/export\""));
        }
        let trimmed = text.strip_suffix('/').unwrap_or(&text);
        let segments = if trimmed.is_empty() {
            Vec::new()
        } else {
            path::segments(trimmed).map(|segment| Segment::parse(&segment)).collect::<Result<_, _>>()?
        };
        Ok(Self { text, segments })
    }
}

impl Segment {
    fn parse(segment: &str) -> Result<Self, String> {
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) if !name.is_empty() && !name.contains(['{', '}']) => Ok(Self::Placeholder),
            None if !segment.is_empty() && !segment.contains(['{', '}']) => Ok(Self::Literal(segment.to_owned())),
            _ => Err(format!("{segment:?} is neither a segment of a path nor a placeholder such as \"{{id}}\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_pattern_matches_whole_segments_and_what_is_below() {
        for (text, path) in [
            ("/", "/"),
            ("/", "/a/b"),
            ("/up", "/up"),
            ("/up/", "/up"),
            ("/up", "/up/a"),
            ("/up", "/%75p/"),
            ("/u/{id}/x", "/u/5/x/y"),
        ] {
            assert!(pattern(text).matches(path), "{text} {path}");
        }
        for (text, path) in [("/up", "/upper"), ("/up", "/"), ("/up", "//up"), ("/u/{id}", "/u/"), ("/a%2Fb", "/a/b")] {
            assert!(!pattern(text).matches(path), "{text} {path}");
        }
    }

    #[test]
    fn more_segments_are_more_specific_and_then_the_earlier_literal() {
        for (less, more) in [("/", "/a"), ("/a", "/a/{x}"), ("/a/{x}", "/a/b"), ("/{x}/b", "/a/{y}")] {
            assert_eq!(pattern(more).specificity(&pattern(less)), Ordering::Greater, "{less} {more}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", "a", "/a?b", "/a//b", "/a/{", "/a/{}", "/a/x{y}", "/a/../b"] {
            assert!(Pattern::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
