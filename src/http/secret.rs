//! Whether a body holds a password: such a one is kept no longer than its request runs.

use memchr::memmem;

/// The names under which the hosted API takes a password, as JSON may write them: with an escaped letter, anything that
/// could be one counts.
const SIGNS: [&[u8]; 3] = [b"password", b"\\u006", b"\\u007"];

/// Bytes of the longest sign, less one: so many of a piece may be the beginning of one.
const OVERLAP: usize = 7;

/// A search through a body, piece by piece.
#[derive(Debug, Default)]
pub struct Search {
    tail: Vec<u8>,
    found: bool,
}

impl Search {
    /// Looks through the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        if self.found {
            return;
        }
        // Where two pieces meet, and then in the piece itself.
        self.tail.extend_from_slice(&piece[..piece.len().min(OVERLAP)]);
        self.found = is_in(&self.tail) || is_in(piece);
        if piece.len() > OVERLAP {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - OVERLAP..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(OVERLAP));
        }
    }

    /// Whether there is one.
    pub fn found(&self) -> bool {
        self.found
    }
}

fn is_in(bytes: &[u8]) -> bool {
    SIGNS.iter().any(|sign| memmem::find(bytes, sign).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(pieces: &[&[u8]]) -> bool {
        let mut search = Search::default();
        pieces.iter().for_each(|piece| search.push(piece));
        search.found()
    }

    #[test]
    fn a_password_is_found_also_where_it_is_escaped_and_nothing_else_is() {
        assert!(found(&[br#"{"password": "x"}"#]));
        assert!(found(&[br#"{"pass\u0077ord": "x"}"#]) && found(&[br#"{"\u0070assword": "x"}"#]));
        assert!(!found(&[br#"{"name": "caf\u00e9", "pass": "word"}"#]) && !found(&[]));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_body_is_cut(cuts in prop::collection::vec(1_usize..6, 8..40), at in 0_usize..40) {
            let mut body = vec![b'x'; 60];
            body.splice(at..at, b"password".iter().copied());
            let (mut search, mut rest) = (Search::default(), &body[..]);
            for cut in cuts {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                search.push(piece);
                rest = more;
            }
            search.push(rest);
            prop_assert!(search.found());
        }
    }
}
