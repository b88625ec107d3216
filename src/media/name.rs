//! The names of files, and the extension that follows the content type.

use crate::model::Rid;
use crate::model::time::Keep;

/// Characters of an extension at most.
const LONGEST_EXTENSION: usize = 16;

/// A file of the server's own. Only such names are ever looked for below the media folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// A result, by its name: `keep1m.bgrs.<rid>.result.<ext>`.
    Result(String),
    /// The stored body of a request: `bgrs.<rid>.body`.
    Body(Rid),
}

impl File {
    /// The name below the media folder.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self {
            Self::Result(name) => name.clone(),
            Self::Body(rid) => format!("bgrs.{rid}.body"),
        }
    }

    /// The request it belongs to; `None` for a name that is no result's.
    #[must_use]
    pub fn rid(&self) -> Option<Rid> {
        match self {
            Self::Result(name) => result_rid(name),
            Self::Body(rid) => Some(*rid),
        }
    }

    /// The file of that name, if it is one of the server's own.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if result_rid(name).is_some() {
            return Some(Self::Result(name.to_owned()));
        }
        let rid = name.strip_prefix("bgrs.")?.strip_suffix(".body")?;
        rid.parse().ok().map(Self::Body)
    }
}

fn result_rid(name: &str) -> Option<Rid> {
    let mut parts = name.split('.');
    let class = parts.next()?.strip_prefix("keep")?;
    let right = Keep::ALL.iter().any(|keep| keep.class() == class) && parts.next()? == "bgrs";
    let rid = parts.next()?.parse().ok()?;
    let right = right && parts.next()? == "result";
    let extension = parts.next()?;
    let plain = extension.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let right = right && plain && (1..=LONGEST_EXTENSION).contains(&extension.len()) && parts.next().is_none();
    right.then_some(rid)
}

/// The files of a request: its result's, by its name, and its body's.
pub fn files_of(rid: Rid, result: Option<String>, body: bool) -> impl Iterator<Item = File> {
    [result.map(File::Result), body.then_some(File::Body(rid))].into_iter().flatten()
}

/// The name of a request's result.
#[must_use]
pub fn result_name(keep: Keep, rid: Rid, content_type: Option<&[u8]>) -> String {
    format!("keep{}.bgrs.{rid}.result.{}", keep.class(), extension(content_type))
}

/// The extension that follows a content type; `bin` where there is none.
#[must_use]
pub fn extension(content_type: Option<&[u8]>) -> &'static str {
    let Some(text) = content_type.and_then(|value| std::str::from_utf8(value).ok()) else { return "bin" };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = mime2ext::mime2ext(&essence).filter(|extension| is_plain(extension));
    // RFC 6839: what is behind the plus says how to read it.
    let suffix = || match essence.rsplit_once('+')?.1 {
        "json" => Some("json"),
        "xml" => Some("xml"),
        "zip" => Some("zip"),
        _ => None,
    };
    known.or_else(suffix).unwrap_or("bin")
}

fn is_plain(extension: &str) -> bool {
    (1..=LONGEST_EXTENSION).contains(&extension.len())
        && extension.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_extension_follows_the_content_type() {
        for (content_type, expected) in [
            ("application/json; charset=utf-8", "json"),
            ("text/csv; charset=utf-8", "csv"),
            ("Text/HTML", "html"),
            ("text/plain", "txt"),
            ("application/xml", "xml"),
            ("text/xml", "xml"),
            ("application/pdf", "pdf"),
            ("image/png", "png"),
            ("application/zip", "zip"),
            ("application/problem+json", "json"),
            ("application/x-nobody-knows", "bin"),
            ("", "bin"),
            ("\u{e9}", "bin"),
        ] {
            assert_eq!(extension(Some(content_type.as_bytes())), expected, "{content_type}");
        }
        assert_eq!(extension(None), "bin");
    }

    #[test]
    fn a_name_has_one_spelling() {
        let rid = "4ff7cc2d88b1de88e83cce3f1caa1509";
        assert!(File::parse(&format!("keep1m.bgrs.{rid}.result.json")).is_some());
        for name in [
            format!("keep1m.bgrs.{rid}.result."),
            format!("keep1m.bgrs.{rid}.result"),
            format!("keep1m.bgrs.{rid}.result.JSON"),
            format!("keep1m.bgrs.{rid}.result.a.b"),
            format!("keep2m.bgrs.{rid}.result.json"),
            format!("keep1m.bgrs.{}.result.json", rid.to_uppercase()),
            format!("../keep1m.bgrs.{rid}.result.json"),
            format!("keep1m.bgrs.{rid}.result./x"),
            format!("bgrs.{rid}.body.x"),
            format!(".bgrs.{rid}.part"),
            String::new(),
        ] {
            assert!(File::parse(&name).is_none(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_reads_back_as_its_file(number in 0_i64..1 << 48, body: bool) {
            let rid = Rid::generate(number).unwrap();
            let file = if body { File::Body(rid) } else { File::Result(result_name(Keep::Month, rid, None)) };
            let read = File::parse(&file.file_name()).unwrap();
            prop_assert_eq!(read.rid(), Some(rid));
            prop_assert_eq!(read, file);
        }

        #[test]
        fn no_name_of_a_file_leaves_the_folder(name in "(keep1m\\.bgrs\\.|bgrs\\.)?[0-9a-f]{32}[./a-z%\\\\]{0,20}") {
            if let Some(file) = File::parse(&name) {
                prop_assert!(!file.file_name().contains(['/', '\\', '%']) && !file.file_name().contains(".."));
            }
        }
    }
}
