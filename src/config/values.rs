//! The values of the configuration: how each is written, and the range that it has to be in.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use serde::de::value::{Error as PlainError, StrDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, SeqAccess, Unexpected, Visitor};
use zeroize::Zeroizing;

use crate::routing::BaseUrl;
use crate::webhooks::Secret;

/// Seconds of thirty days: a longer time makes no sense, and it is far from where clocks overflow.
pub const LONGEST: u64 = 30 * 24 * 60 * 60;

/// A whole number from `LEAST` to `MOST`.
pub fn count<'de, D, T, const LEAST: i64, const MOST: i64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    // Asked for an integer, `config` would take `true` for 1 and round 1.5: the number is taken as it is written.
    let count = deserializer.deserialize_any(WholeNumber)?;
    let within = Some(count).filter(|count| (LEAST..=MOST).contains(count));
    within.and_then(|count| T::try_from(count).ok()).ok_or_else(|| out_of_range(count, LEAST, MOST))
}

/// A duration from `LEAST` to `MOST` seconds.
pub fn duration<'de, D, const LEAST: u64, const MOST: u64>(deserializer: D) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    let value = humantime::parse_duration(&text)
        .map_err(|_| de::Error::custom(format!("{text:?} is not a duration such as \"30s\", \"20m\" or \"6h\"")))?;
    let (least, most) = (Duration::from_secs(LEAST), Duration::from_secs(MOST));
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(out_of_range(text, humantime::format_duration(least), humantime::format_duration(most)))
}

/// A number of bytes, `LEAST` or more.
pub fn bytes<'de, D, const LEAST: u64>(deserializer: D) -> Result<u64, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    let size: Result<ByteSize, _> = text.parse();
    let size = size
        .map_err(|_| de::Error::custom(format!("{text:?} is not a size such as \"512 MiB\" or \"1 GiB\"")))?
        .as_u64();
    if size >= LEAST {
        return Ok(size);
    }
    Err(de::Error::custom(format!("{text} is out of range: at least {LEAST} byte")))
}

/// One of the words that `T` knows.
pub fn choice<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    // Not from `config`'s own deserializer of enums: its errors do not say what there is to choose from.
    let text = String::deserialize(deserializer)?;
    let word: StrDeserializer<'_, PlainError> = text.as_str().into_deserializer();
    T::deserialize(word).map_err(|error| de::Error::custom(error.to_string().replacen("variant", "value", 1)))
}

/// A path that is not empty.
pub fn path<'de, D>(deserializer: D) -> Result<PathBuf, D::Error>
where
    D: Deserializer<'de>,
{
    // Asked for a string, `config` would take 5 for "5".
    deserializer.deserialize_any(Path)
}

/// One, or a list of at least `LEAST`.
pub fn one_or_many<'de, D, T, const LEAST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    deserializer.deserialize_any(OneOrMany(LEAST, PhantomData))
}

/// `true` or `false`.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    // Asked for a bool, `config` would take 5 for true.
    deserializer.deserialize_any(Flag)
}

/// [`count`], for a key that has no default.
pub fn some_count<'de, D, T, const LEAST: i64, const MOST: i64>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    count::<D, T, LEAST, MOST>(deserializer).map(Some)
}

/// [`duration`], for a key that has no default.
pub fn some_duration<'de, D, const LEAST: u64, const MOST: u64>(deserializer: D) -> Result<Option<Duration>, D::Error>
where
    D: Deserializer<'de>,
{
    duration::<D, LEAST, MOST>(deserializer).map(Some)
}

/// [`choice`], for a key that has no default.
pub fn some_choice<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    choice(deserializer).map(Some)
}

/// What stands before the server's own routes: a path, or nothing.
pub fn mount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let is_path = text.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|segment| !segment.is_empty() && segment != ".." && segment.bytes().all(plain))
    });
    if text.is_empty() || is_path {
        return Ok(text);
    }
    Err(de::Error::custom(format!("{text:?} is not a path such as \"/background\"; it has no slash at its end")))
}

/// The URL of a server, or nothing.
pub fn public_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(text);
    }
    BaseUrl::try_from(text).map(|url| url.to_string()).map_err(de::Error::custom)
}

/// A secret, or nothing.
pub fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    // Its text is in no error.
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(de::Error::custom) }
}

fn out_of_range<E: de::Error>(value: impl Display, least: impl Display, most: impl Display) -> E {
    E::custom(format!("{value} is out of range: {least} to {most}"))
}

struct WholeNumber;

impl Visitor<'_> for WholeNumber {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }

    // What an environment variable holds is always text.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

struct Path;

impl Visitor<'_> for Path {
    type Value = PathBuf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PathBuf, E> {
        if text.is_empty() { Err(E::custom("the path is empty")) } else { Ok(text.into()) }
    }
}

struct OneOrMany<T>(usize, PhantomData<T>);

const EMPTY: &str = "the list is empty: name at least one";

impl<'de, T: FromStr<Err: Display>> Visitor<'de> for OneOrMany<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or a list of them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        // What may not be empty is an address, and a path in it may have a comma.
        if self.0 > 0
            && let Ok(one) = text.parse()
        {
            return Ok(vec![one]);
        }
        // With commas, an environment variable's list.
        let each = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let all: Vec<T> = each.map(|one| one.parse().map_err(E::custom)).collect::<Result<_, _>>()?;
        if all.len() < self.0 { Err(E::custom(EMPTY)) } else { Ok(all) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(text) = seq.next_element::<String>()? {
            all.push(text.parse().map_err(de::Error::custom)?);
        }
        if all.len() < self.0 {
            return Err(de::Error::custom(EMPTY));
        }
        Ok(all)
    }
}

struct Flag;

impl Visitor<'_> for Flag {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false")
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<bool, E> {
        Ok(flag)
    }

    // What an environment variable holds is always text.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}
