//! Stored bodies, encrypted: XChaCha20-Poly1305 in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015),
//! chunk by chunk, bound to the request. A chunk that is missing, moved or changed is refused.

use aead_stream::{DecryptorBE32, EncryptorBE32};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::Payload;
use zeroize::Zeroizing;

use super::Error;
use crate::model::Rid;
use crate::vault::Key;

/// Bytes of clear text in a chunk.
pub const CHUNK: usize = 64 * 1024;

/// Bytes that a chunk's tag adds.
pub const TAG: usize = 16;

/// Bytes of the random nonce at a file's beginning: what STREAM leaves of XChaCha20's 24.
pub const NONCE: usize = 19;

/// Encrypts one body.
pub struct Sealer {
    encryptor: EncryptorBE32<XChaCha20Poly1305>,
    rid: Rid,
    /// Clear text that does not fill a chunk yet.
    rest: Zeroizing<Vec<u8>>,
}

impl Sealer {
    /// Begins a body; the nonce goes to the file's beginning.
    pub fn new(key: &Key, rid: Rid) -> Result<(Self, [u8; NONCE]), Error> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| Error::Io(std::io::Error::other(error.to_string())))?;
        let encryptor = EncryptorBE32::from_aead(key.cipher(), &nonce.into());
        Ok((Self { encryptor, rid, rest: Zeroizing::default() }, nonce))
    }

    /// Takes clear text and gives back the chunks that are full. One chunk stays: it may be the last.
    pub fn push(&mut self, clear: &[u8]) -> Result<Vec<u8>, Error> {
        self.rest.extend_from_slice(clear);
        let mut sealed = Vec::new();
        while self.rest.len() > CHUNK {
            let payload = Payload { msg: &self.rest[..CHUNK], aad: self.rid.as_bytes() };
            sealed.extend(self.encryptor.encrypt_next(payload).map_err(|_| Error::Sealed)?);
            self.rest.drain(..CHUNK);
        }
        Ok(sealed)
    }

    /// Ends the body.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let payload = Payload { msg: &self.rest, aad: self.rid.as_bytes() };
        self.encryptor.encrypt_last(payload).map_err(|_| Error::Sealed)
    }
}

/// Decrypts one body.
pub struct Opener {
    decryptor: DecryptorBE32<XChaCha20Poly1305>,
    rid: Rid,
}

impl Opener {
    /// Begins a body with the nonce from its file.
    pub fn new(key: &Key, rid: Rid, nonce: &[u8; NONCE]) -> Self {
        Self { decryptor: DecryptorBE32::from_aead(key.cipher(), &(*nonce).into()), rid }
    }

    /// Opens a chunk that is not the last.
    pub fn next(&mut self, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let payload = Payload { msg: sealed, aad: self.rid.as_bytes() };
        self.decryptor.decrypt_next(payload).map_err(|_| Error::Sealed)
    }

    /// Opens the last chunk: a file that was cut short ends with one that is not.
    pub fn last(self, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let payload = Payload { msg: sealed, aad: self.rid.as_bytes() };
        self.decryptor.decrypt_last(payload).map_err(|_| Error::Sealed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> Key {
        Key::from([7; 32])
    }

    fn rid() -> Rid {
        "4ff7cc2d88b1de88e83cce3f1caa1509".parse().unwrap()
    }

    fn seal(pieces: &[Vec<u8>]) -> (Vec<u8>, [u8; NONCE]) {
        let (mut sealer, nonce) = Sealer::new(&key(), rid()).unwrap();
        let mut sealed = Vec::new();
        for piece in pieces {
            sealed.extend(sealer.push(piece).unwrap());
        }
        sealed.extend(sealer.finish().unwrap());
        (sealed, nonce)
    }

    fn open(sealed: &[u8], nonce: &[u8; NONCE], rid: Rid) -> Result<Vec<u8>, Error> {
        let mut opener = Opener::new(&key(), rid, nonce);
        let mut clear = Vec::new();
        let mut rest = sealed;
        while rest.len() > CHUNK + TAG {
            clear.extend(opener.next(&rest[..CHUNK + TAG])?);
            rest = &rest[CHUNK + TAG..];
        }
        clear.extend(opener.last(rest)?);
        Ok(clear)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_split_of_any_bytes_comes_back(sizes in prop::collection::vec(0_usize..90_000, 0..5), byte: u8) {
            let pieces: Vec<Vec<u8>> = sizes.iter().map(|size| vec![byte; *size]).collect();
            let (sealed, nonce) = seal(&pieces);
            prop_assert_eq!(open(&sealed, &nonce, rid()).unwrap(), pieces.concat());
        }

        #[test]
        fn whatever_was_changed_or_cut_is_refused(size in 1_usize..150_000, at in 0.0..1.0_f64, cut: bool) {
            let (mut sealed, nonce) = seal(&[vec![1; size]]);
            let place = ((sealed.len() - 1) as f64 * at) as usize;
            if cut {
                sealed.truncate(place);
            } else {
                sealed[place] ^= 1;
            }
            prop_assert!(open(&sealed, &nonce, rid()).is_err());
        }
    }

    #[test]
    fn a_body_opens_for_its_own_request_alone() {
        let (sealed, nonce) = seal(&[b"secret".to_vec()]);
        let other = "00000000000000000000000000000000".parse().unwrap();
        assert!(open(&sealed, &nonce, other).is_err());
    }
}
