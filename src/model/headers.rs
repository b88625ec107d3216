//! Header fields as plain data, in the order they were sent.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, SerializeSeq, Serializer};

/// Header fields with repeats and order kept; names in lower case, values any bytes that HTTP allows.
///
/// Written to the database as JSON, `[["name", "value"], …]`. A value's bytes become the characters of the same
/// number (ISO 8859-1, as RFC 9110 section 5.5 reads them), so that it comes back byte for byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// One behind the other, as the values are: of its own, each would be a piece of memory that comes and goes.
    names: String,
    values: Vec<u8>,
    /// Where the name and the value of each field end.
    ends: Vec<(usize, usize)>,
}

impl Headers {
    /// Adds a field behind those that are there.
    pub fn append(&mut self, name: &str, value: &[u8]) {
        if self.ends.is_empty() {
            // Room for those of most calls.
            self.names.reserve(64);
            self.values.reserve(192);
            self.ends.reserve(8);
        }
        let begin = self.names.len();
        self.names.push_str(name);
        self.names[begin..].make_ascii_lowercase();
        self.values.extend_from_slice(value);
        self.ends.push((self.names.len(), self.values.len()));
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
        self.ends.is_empty()
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut begin = (0, 0);
        self.ends.iter().map(move |&end| {
            let field = (&self.names[begin.0..end.0], &self.values[begin.1..end.1]);
            begin = end;
            field
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
        let mut seq = serializer.serialize_seq(Some(self.ends.len()))?;
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
