//! The secret that callbacks are signed with.

use std::fmt;
use std::io::{Error, ErrorKind, Read};
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use standardwebhooks::Webhook;
use zeroize::Zeroizing;

use crate::vault::create_secret;

/// What a secret begins with, as text.
const PREFIX: &str = "whsec_";

/// Bytes that it may have, by the specification.
const LENGTHS: RangeInclusive<usize> = 24..=64;

/// Bytes of one that is made here.
const MADE: usize = 32;

/// The secret that callbacks are signed with, and that their receivers know.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// The text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a secret: \"whsec_\" and the base64 of 24 to 64 bytes are expected")]
pub struct Malformed;

impl FromStr for Secret {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bytes = text.strip_prefix(PREFIX).and_then(|rest| STANDARD.decode(rest).ok()).map(Zeroizing::new);
        bytes.filter(|bytes| LENGTHS.contains(&bytes.len())).map(Self).ok_or(Malformed)
    }
}

/// Without its bytes: they must not slip into a log.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Secret {
    /// Reads the secret's file; makes it, for this user alone to read, where there is none. Blocks.
    ///
    /// # Errors
    /// A file that cannot be read or made, or that holds no secret.
    pub fn load_or_create(path: &Path) -> std::io::Result<Self> {
        match std::fs::File::open(path) {
            Ok(file) => Self::read(file),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error),
        }
    }

    fn read(file: std::fs::File) -> std::io::Result<Self> {
        let mut text = Zeroizing::new(String::new());
        file.take(200).read_to_string(&mut text)?;
        text.trim_end().parse().map_err(|error: Malformed| Error::new(ErrorKind::InvalidData, error))
    }

    fn create(path: &Path) -> std::io::Result<Self> {
        let mut secret = Zeroizing::new(vec![0; MADE]);
        getrandom::fill(&mut secret).map_err(|error| Error::other(error.to_string()))?;
        let text = Zeroizing::new(STANDARD.encode(&*secret));
        let line = Zeroizing::new(format!("{PREFIX}{}\n", text.as_str()));
        // Another process was first: its secret is the one.
        if create_secret(path, line.as_bytes())? { Ok(Self(secret)) } else { Self::read(std::fs::File::open(path)?) }
    }

    /// What signs with it.
    pub(super) fn signer(&self) -> Result<Webhook, String> {
        Webhook::from_bytes(self.0.to_vec()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        for (secret, id, at, payload, signature) in [
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ] {
            let signer = secret.parse::<Secret>().unwrap().signer().unwrap();
            assert_eq!(signer.sign(id, at, payload.as_bytes()).unwrap(), signature);
        }
    }

    #[test]
    fn a_secret_has_its_prefix_and_24_to_64_bytes_and_does_not_show() {
        let text = |length: usize| format!("{PREFIX}{}", STANDARD.encode(vec![7_u8; length]));
        for length in [24, 25, 32, 64] {
            assert!(text(length).parse::<Secret>().is_ok(), "{length}");
        }
        for wrong in [text(23), text(65), text(24).replace(PREFIX, ""), format!("{PREFIX}***"), String::new()] {
            assert_eq!(wrong.parse::<Secret>().err(), Some(Malformed), "{wrong}");
        }
        assert_eq!(format!("{:?}", text(24).parse::<Secret>().unwrap()), "Secret { .. }");
    }

    #[test]
    fn a_secrets_file_is_for_its_owner_alone_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bgrs.whsec");
        let made = Secret::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(*Secret::load_or_create(&path).unwrap().0, *made.0);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(*text.trim_end().parse::<Secret>().unwrap().0, *made.0);
        std::fs::write(&path, "not a secret").unwrap();
        assert!(Secret::load_or_create(&path).is_err());
    }
}
