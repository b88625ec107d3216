//! A JSON array that comes in pieces, taken apart into its elements: memory holds one of them.

use serde::de::IgnoredAny;

/// Bytes of an element at most.
pub const LONGEST: usize = 1 << 20;

/// Why a body is no array of elements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is something else than a bracket, a comma or white space around the elements.
    #[error("behind element {0} a comma or a closing bracket is expected")]
    Between(u64),
    /// An element is not JSON.
    #[error("element {0} is not JSON: {1}")]
    Element(u64, String),
    /// An element is too long.
    #[error("element {0} is longer than 1 MiB")]
    TooLong(u64),
    /// The body ends before the array does, or goes on behind it.
    #[error("the array does not end where the body ends")]
    Unended,
}

/// Takes an array apart.
#[derive(Debug, Default)]
pub struct Splitter {
    place: Place,
    element: Vec<u8>,
    /// Brackets and braces that are open within the element.
    depth: usize,
    /// Within a text, and there behind a backslash.
    text: bool,
    escaped: bool,
    count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Before,
    /// Behind the opening bracket: an element, or the end.
    First,
    /// Behind a comma: an element.
    Element,
    After,
}

impl Splitter {
    /// Takes the next piece of the body and gives its elements, each the text of one JSON value.
    ///
    /// # Errors
    /// Why the body is no array.
    pub fn push(&mut self, piece: &[u8], mut found: impl FnMut(Vec<u8>)) -> Result<(), Error> {
        for &byte in piece {
            match self.place {
                Place::Before if byte == b'[' => self.place = Place::First,
                Place::Before | Place::After if is_space(byte) => {}
                Place::Before | Place::After => return Err(Error::Unended),
                Place::First | Place::Element => self.within(byte, &mut found)?,
            }
        }
        Ok(())
    }

    /// Ends the body and gives the number of elements.
    ///
    /// # Errors
    /// When the array has not ended.
    pub fn end(self) -> Result<u64, Error> {
        if self.place == Place::After { Ok(self.count) } else { Err(Error::Unended) }
    }

    fn within(&mut self, byte: u8, found: &mut impl FnMut(Vec<u8>)) -> Result<(), Error> {
        if !self.text && self.depth == 0 && matches!(byte, b',' | b']') {
            self.take(byte == b']', found)?;
            self.place = if byte == b']' { Place::After } else { Place::Element };
            return Ok(());
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.text => self.escaped = true,
            b'"' => self.text = !self.text,
            b'[' | b'{' if !self.text => self.depth += 1,
            b']' | b'}' if !self.text => {
                self.depth = self.depth.checked_sub(1).ok_or(Error::Between(self.count))?;
            }
            _ => {}
        }
        if self.element.len() == LONGEST {
            return Err(Error::TooLong(self.count + 1));
        }
        self.element.push(byte);
        Ok(())
    }

    fn take(&mut self, last: bool, found: &mut impl FnMut(Vec<u8>)) -> Result<(), Error> {
        let element = std::mem::take(&mut self.element);
        if last && self.place == Place::First && element.iter().copied().all(is_space) {
            return Ok(());
        }
        self.count += 1;
        serde_json::from_slice::<IgnoredAny>(&element)
            .map_err(|error| Error::Element(self.count, error.to_string()))?;
        found(element);
        Ok(())
    }
}

/// Whether a byte is white space to JSON (RFC 8259 section 2).
#[must_use]
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn split(body: &[u8], piece: usize) -> Result<Vec<Value>, Error> {
        let (mut splitter, mut elements) = (Splitter::default(), Vec::new());
        for piece in body.chunks(piece) {
            splitter.push(piece, |element| elements.push(serde_json::from_slice(&element).unwrap()))?;
        }
        assert_eq!(splitter.end()?, elements.len() as u64);
        Ok(elements)
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..5).prop_map(|pairs| pairs.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_array_comes_apart_as_a_parser_reads_it(elements in prop::collection::vec(value(), 0..6), piece in 1..9_usize, pretty: bool) {
            let body = if pretty { serde_json::to_vec_pretty(&elements) } else { serde_json::to_vec(&elements) }.unwrap();
            prop_assert_eq!(split(&body, piece).unwrap(), elements);
        }

        #[test]
        fn what_a_parser_refuses_is_refused(body in "[\\[\\]{},:\"a1 \\\\]{0,12}") {
            let parsed: Result<Vec<IgnoredAny>, _> = serde_json::from_str(&body);
            let mut splitter = Splitter::default();
            let split = splitter.push(body.as_bytes(), |_| {}).and_then(|()| splitter.end());
            prop_assert_eq!(split.is_ok(), parsed.is_ok(), "{}", body);
        }
    }

    #[test]
    fn an_element_is_bounded_and_named() {
        let mut splitter = Splitter::default();
        splitter.push(b"[1, \"", |_| {}).unwrap();
        assert_eq!(splitter.push(&[b'a'; LONGEST + 1], |_| {}), Err(Error::TooLong(2)));
        assert!(matches!(split(b"[1, 2 3]", 99), Err(Error::Element(2, _))));
        assert_eq!(split(b"[1] x", 99), Err(Error::Unended));
    }
}
