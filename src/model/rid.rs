//! The identifier of a background request, which is also the secret that opens it.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use zeroize::{Zeroize, Zeroizing};

/// A request id: 128 bits, written as 32 lowercase hex digits.
///
/// The first 48 bits are a number that grows with each request, its row's: an index over rids grows at one end, and a row
/// is found without it. The other 80 are from the system's random source, so that knowing one rid tells nothing of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rid([u8; 16]);

/// The text is not 32 lowercase hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request id is 32 lowercase hex digits")]
pub struct ParseError;

/// Bytes of the system's random source for the next rids of a thread: asked for many at once, since each question is a
/// system call. What is taken is wiped.
struct Random {
    bytes: Zeroizing<[u8; 640]>,
    taken: usize,
}

thread_local! {
    static RANDOM: RefCell<Random> = RefCell::new(Random::none());
}

impl Random {
    fn none() -> Self {
        Self { bytes: Zeroizing::new([0; 640]), taken: 640 }
    }

    fn fill(&mut self, part: &mut [u8]) -> Result<(), getrandom::Error> {
        if self.bytes.len() - self.taken < part.len() {
            getrandom::fill(&mut *self.bytes)?;
            self.taken = 0;
        }
        let next = &mut self.bytes[self.taken..][..part.len()];
        part.copy_from_slice(next);
        next.zeroize();
        self.taken += part.len();
        Ok(())
    }
}

impl Rid {
    /// Makes a new rid for the request that is to have this number; of the number, the lower 48 bits count.
    ///
    /// # Errors
    /// When the system's random source cannot be read.
    pub fn generate(number: i64) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&number.to_be_bytes()[2..]);
        RANDOM.with_borrow_mut(|random| random.fill(&mut bytes[6..]))?;
        Ok(Self(bytes))
    }

    /// The number that it was made with.
    #[must_use]
    pub fn number(&self) -> i64 {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0[..6]);
        i64::from_be_bytes(bytes)
    }

    /// The digits, written into `text`.
    #[must_use]
    pub fn encode(self, text: &mut [u8; 32]) -> &str {
        // The room is exactly what the digits take, and they are ASCII.
        let _ = hex::encode_to_slice(self.0, text);
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// The 16 bytes, most significant first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode(&mut [0; 32]))
    }
}

impl fmt::Debug for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rid({self})")
    }
}

impl FromStr for Rid {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseError);
        }
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseError)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rids_of_later_numbers_sort_later_and_tell_their_number() {
        let (early, late) = (Rid::generate(255).unwrap(), Rid::generate(256).unwrap());
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
        assert_eq!((early.number(), late.number()), (255, 256));
    }

    #[test]
    fn eighty_bits_differ_between_rids_of_one_number() {
        let rids: Vec<_> = (0..1_000).map(|_| Rid::generate(7).unwrap()).collect();
        for byte in 6..16 {
            let values: std::collections::HashSet<u8> = rids.iter().map(|r| r.as_bytes()[byte]).collect();
            assert!(values.len() > 200, "byte {byte} takes only {} values", values.len());
        }
        assert!(rids.iter().all(|r| r.as_bytes()[..6] == rids[0].as_bytes()[..6]));
    }

    proptest! {
        #[test]
        fn every_rid_reads_back_as_it_was_written(bytes: [u8; 16]) {
            let text = Rid(bytes).to_string();
            prop_assert_eq!(text.len(), 32);
            prop_assert_eq!(text.parse::<Rid>().unwrap(), Rid(bytes));
        }

        #[test]
        fn no_other_text_is_a_rid(text in "\\PC{0,40}") {
            let right = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            prop_assert_eq!(text.parse::<Rid>().is_ok(), right);
        }
    }
}
