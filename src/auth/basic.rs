//! HTTP Basic credentials (RFC 7617).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Error;

/// Bytes of a login at most.
pub const LONGEST_LOGIN: usize = 255;

/// Bytes of a password at most: a hash costs time for each.
pub const LONGEST_PASSWORD: usize = 1024;

/// A login and a password. Not `Debug`: it must not slip into a log.
pub struct Credentials {
    /// The login.
    pub login: String,
    /// The password, wiped from memory when it is dropped.
    pub password: Zeroizing<String>,
}

/// The one value of a call's `Authorization` headers.
///
/// # Errors
/// [`Error::Missing`] without one, [`Error::Malformed`] where there are more.
pub fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<&'a [u8], Error> {
    let value = values.next().ok_or(Error::Missing)?;
    if values.next().is_some() { Err(Error::Malformed) } else { Ok(value) }
}

/// Reads the value of an `Authorization` header.
///
/// # Errors
/// [`Error::Malformed`] for whatever is not one pair of Basic credentials.
pub fn parse(value: &[u8]) -> Result<Credentials, Error> {
    credentials(value).ok_or(Error::Malformed)
}

fn credentials(value: &[u8]) -> Option<Credentials> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim_matches(' ')).ok()?);
    let (login, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    let fits = (1..=LONGEST_LOGIN).contains(&login.len()) && password.len() <= LONGEST_PASSWORD;
    fits.then(|| Credentials { login: login.to_owned(), password: Zeroizing::new(password.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(values: &[&str]) -> Result<(String, String), Error> {
        let credentials = parse(only(values.iter().map(|value| value.as_bytes()))?)?;
        Ok((credentials.login.clone(), credentials.password.to_string()))
    }

    #[test]
    fn credentials_are_read_as_the_rfc_writes_them() {
        let expected = ("Aladdin".to_owned(), "open sesame".to_owned());
        assert_eq!(parsed(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]).unwrap(), expected);
        assert_eq!(parsed(&["bAsIc QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]).unwrap(), expected);
        let colons = STANDARD.encode("a:b:c");
        assert_eq!(parsed(&[&format!("Basic {colons}")]).unwrap(), ("a".to_owned(), "b:c".to_owned()));
    }

    #[test]
    fn every_broken_form_is_malformed() {
        let no_colon = format!("Basic {}", STANDARD.encode("admin"));
        let no_login = format!("Basic {}", STANDARD.encode(":secret"));
        let not_text = format!("Basic {}", STANDARD.encode([0xff, b':', b'x']));
        for value in ["", "Basic", "Basic ", "Basic !!!!", "Bearer QTpi", "QTpi", &no_colon, &no_login, &not_text] {
            assert!(matches!(parsed(&[value]), Err(Error::Malformed)), "{value}");
        }
        assert!(matches!(parsed(&[]), Err(Error::Missing)));
        assert!(matches!(parsed(&["Basic QTpi", "Basic QTpi"]), Err(Error::Malformed)));
    }
}
