//! The server's key: what it encrypts, and what it vouches for.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use zeroize::Zeroizing;

use crate::model::Rid;

/// Bytes of XChaCha20's nonce: enough for random ones.
const NONCE: usize = 24;

/// Makes a file that holds a secret, for this user alone to read; `false`: there is one already. Whole under its name, or
/// not there: a crash in between must not leave a file that holds none. Blocks.
///
/// # Errors
/// When it cannot be made.
pub fn create_secret(path: &Path, text: &[u8]) -> std::io::Result<bool> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
    part.write_all(text)?;
    part.as_file().sync_all()?;
    match part.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error.error),
    }
    std::fs::File::open(folder)?.sync_all()?;
    Ok(true)
}

/// The key that stored bodies and headers are encrypted with. Not `Debug`.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// Reads the key file; makes it, for this user alone to read, where there is none. Blocks.
    ///
    /// # Errors
    /// A file that cannot be read or made, or that holds no key.
    pub fn load_or_create(path: &Path) -> std::io::Result<Self> {
        match std::fs::File::open(path) {
            Ok(file) => Self::read(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error),
        }
    }

    fn read(file: std::fs::File) -> std::io::Result<Self> {
        let mut text = Zeroizing::new(String::new());
        file.take(100).read_to_string(&mut text)?;
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_end(), key.as_mut()).map_err(|_| {
            std::io::Error::new(std::io::ErrorKind::InvalidData, "it holds no key: 64 hex digits are expected")
        })?;
        Ok(Self(key))
    }

    fn create(path: &Path) -> std::io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut()).map_err(|error| std::io::Error::other(error.to_string()))?;
        let text = Zeroizing::new(hex::encode(key.as_ref()) + "\n");
        // Another process was first: its key is the one.
        if create_secret(path, text.as_bytes())? { Ok(Self(key)) } else { Self::read(std::fs::File::open(path)?) }
    }

    /// The cipher under it.
    #[must_use]
    pub fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.0).into())
    }

    /// Encrypts a few bytes, bound to a request.
    ///
    /// # Errors
    /// When the system's random source cannot be read.
    pub fn seal(&self, rid: Rid, clear: &[u8]) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| Error)?;
        let payload = Payload { msg: clear, aad: rid.as_bytes() };
        let sealed = self.cipher().encrypt(&nonce.into(), payload).map_err(|_| Error)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what [`Key::seal`] has encrypted for the same request.
    ///
    /// # Errors
    /// Bytes that this key did not encrypt, for this request.
    pub fn open(&self, rid: Rid, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or(Error)?;
        let payload = Payload { msg: sealed, aad: rid.as_bytes() };
        self.cipher().decrypt(&(*nonce).into(), payload).map(Zeroizing::new).map_err(|_| Error)
    }

    /// What an upstream shows when it reports of a request: nobody without the key can make it up, and nothing of it
    /// has to be stored.
    #[must_use]
    pub fn token(&self, rid: Rid) -> String {
        let key = Zeroizing::new(blake3::derive_key("bgrs-server 2026-11 report token", self.0.as_ref()));
        blake3::keyed_hash(&key, rid.as_bytes()).to_hex().to_string()
    }

    /// Whether it is a request's token. Takes as long for a wrong one as for the right one.
    #[must_use]
    pub fn is_token(&self, rid: Rid, token: &[u8]) -> bool {
        let shown = std::str::from_utf8(token).ok().and_then(|token| blake3::Hash::from_hex(token).ok());
        // A hash is compared in constant time.
        shown.is_some_and(|shown| blake3::Hash::from_hex(self.token(rid)).is_ok_and(|right| right == shown))
    }
}

/// It cannot be encrypted, or was not encrypted with this key.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it was not encrypted with this server's key, or was changed")]
pub struct Error;

#[cfg(test)]
impl From<[u8; 32]> for Key {
    fn from(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rids() -> (Rid, Rid) {
        (Rid::generate(1).unwrap(), Rid::generate(1).unwrap())
    }

    #[test]
    fn what_is_sealed_is_opened_for_its_own_request_and_key_alone() {
        let (key, (rid, other)) = (Key::from([7; 32]), rids());
        let sealed = key.seal(rid, b"Basic eA==").unwrap();
        assert_eq!(&**key.open(rid, &sealed).unwrap(), b"Basic eA==");
        assert!(key.open(other, &sealed).is_err());
        assert!(Key::from([8; 32]).open(rid, &sealed).is_err());
        assert!(key.open(rid, &sealed[1..]).is_err() && key.open(rid, b"").is_err());
        assert_ne!(sealed, key.seal(rid, b"Basic eA==").unwrap());
    }

    #[test]
    fn a_token_is_of_one_request_and_one_key() {
        let (key, (rid, other)) = (Key::from([7; 32]), rids());
        let token = key.token(rid);
        assert!(key.is_token(rid, token.as_bytes()));
        assert!(!key.is_token(other, token.as_bytes()) && !Key::from([8; 32]).is_token(rid, token.as_bytes()));
        assert!(!key.is_token(rid, b"") && !key.is_token(rid, &[0xff; 64]));
    }

    #[test]
    fn a_key_file_is_for_its_owner_alone_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bgrs.key");
        let made = Key::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(*Key::load_or_create(&path).unwrap().0, *made.0);
        std::fs::write(&path, "not a key").unwrap();
        assert!(Key::load_or_create(&path).is_err());
    }
}
