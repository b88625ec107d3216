//! Header fields as plain data, in the order they were sent.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeSeq, Serializer};

/// Header fields with repeats and order kept; names in lower case, values any bytes that HTTP allows.
///
/// Written to the database as JSON, `[["name", "value"], …]`. A value's bytes become the characters of the same
/// number (ISO 8859-1, as RFC 9110 section 5.5 reads them), so that it comes back byte for byte.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<u8>);

/// Bytes of a number in front of a field, of which there are two: how long its name and its value are. All are in one piece
/// of memory: it goes from the thread that takes a call in to the writer and back, and each piece has its price.
const LENGTH: usize = size_of::<usize>();

/// Room for the fields of most calls.
const ROOM: usize = 256;

impl Headers {
    /// Adds a field behind those that are there.
    pub fn append(&mut self, name: &str, value: &[u8]) {
        if self.0.is_empty() {
            self.0.reserve(ROOM);
        }
        self.0.extend_from_slice(&name.len().to_ne_bytes());
        self.0.extend_from_slice(&value.len().to_ne_bytes());
        self.0.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
        self.0.extend_from_slice(value);
    }

    /// The first value of a field; `name` in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Takes a field out; `name` in lower case.
    pub fn remove(&mut self, name: &str) {
        *self = self.iter().filter(|(n, _)| *n != name).collect();
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (name, behind) = rest.split_first_chunk::<LENGTH>()?;
            let (value, behind) = behind.split_first_chunk::<LENGTH>()?;
            let (name, behind) = behind.split_at_checked(usize::from_ne_bytes(*name))?;
            let (value, behind) = behind.split_at_checked(usize::from_ne_bytes(*value))?;
            rest = behind;
            Some((std::str::from_utf8(name).unwrap_or_default(), value))
        })
    }

    /// The database's form.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings in sequences: there is nothing in it that serialising could refuse.
        serde_json::to_string(self).unwrap_or_else(|_| "[]".to_owned())
    }

    /// Reads the database's form.
    ///
    /// # Errors
    /// Text that [`Headers::to_json`] did not write.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, value)| (name, latin1(value)))).finish()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in fields {
            headers.append(name.as_ref(), value.as_ref());
        }
        headers
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for (name, value) in self.iter() {
            seq.serialize_element(&(name, latin1(value)))?;
        }
        seq.end()
    }
}

/// The characters of these numbers. Most values are ASCII, and text as they are.
fn latin1(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) if value.is_ascii() => Cow::Borrowed(text),
        _ => value.iter().map(|&byte| char::from(byte)).collect(),
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<(String, String)>::deserialize(deserializer)?
            .into_iter()
            .map(|(name, text)| {
                let value: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
                value.map(|value| (name, value)).map_err(serde::de::Error::custom)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_come_back_in_order(fields in prop::collection::vec(("[a-z-]{1,8}", any::<Vec<u8>>()), 0..6)) {
            let headers: Headers = fields.iter().map(|(n, v)| (n, v)).collect();
            prop_assert_eq!(Headers::from_json(&headers.to_json()).unwrap(), headers);
        }
    }
}
