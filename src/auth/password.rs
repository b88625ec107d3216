//! Passwords as argon2id hashes (RFC 9106). Everything here blocks for tens of milliseconds.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{self, PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

/// KiB of memory, passes and lanes: of the settings that OWASP's cheat sheet on password storage holds for equal, the one
/// with the least memory, so that a burst of sign-ins does not make the server large.
const COST: (u32, u32, u32) = (7168, 5, 1);

/// Hashes a password with a random salt; the text is in PHC form.
///
/// # Errors
/// When the system's random source cannot be read.
pub fn hash(password: &str) -> Result<String, password_hash::Error> {
    Ok(hasher().hash_password(password.as_bytes())?.to_string())
}

/// Whether the password is the one that was hashed; the comparison takes constant time.
#[must_use]
pub fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| hasher().verify_password(password.as_bytes(), &hash).is_ok())
}

fn hasher() -> Argon2<'static> {
    let (memory, passes, lanes) = COST;
    // These constants lie inside the allowed ranges; the default is of equal strength.
    let params = Params::new(memory, passes, lanes, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_argon2id_and_opens_for_its_password_alone() {
        let hash = hash("secret").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{hash}");
        assert!(verify("secret", &hash));
        assert!(!verify("Secret", &hash));
        assert!(!verify("secret", "no hash at all"));
    }
}
