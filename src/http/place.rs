//! What a path is: one of the server's own, one that is open to all, or the API's.

use super::Error;
use crate::model::Rid;

/// Whose a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Open without credentials.
    Open,
    /// The server's own: `bgrs` is ignored there.
    Own,
    /// Where upstreams report: open to whoever has the request's token.
    Report,
    /// The API's.
    Api,
}

/// First segments of the server's own routes but for `bgrs`, also of those that come with later versions: a parameter that is
/// ignored on them must not begin to mean something then.
const OWN: [&str; 3] = ["media", "metrics", "openapi.json"];

const OPEN: [&str; 2] = ["healthz", "readyz"];

/// Below `ui`, what shows data: for callers who are known.
const DATA: [&str; 2] = ["overview", "requests"];

/// Tells whose a path is; `path` as the router sees it, percent-decoded where that is safe. The server's own paths are
/// behind `mount`.
pub fn of(path: &str, mount: &str) -> Place {
    let Some(path) = path.strip_prefix(mount).and_then(|rest| rest.strip_prefix('/')) else { return Place::Api };
    let mut segments = path.split('/');
    let first = segments.next().unwrap_or_default();
    if first == "ui" {
        // The files of pages are the same for all.
        let rest = segments.next().unwrap_or_default();
        return if DATA.contains(&rest) && segments.next().is_none() { Place::Own } else { Place::Open };
    }
    let is_requests = if version(first).is_some() { segments.next() == Some("bgrs") } else { first == "bgrs" };
    if is_requests {
        // One request's, and no other path that ends in the same way.
        let rest = (segments.next(), segments.next(), segments.next());
        return if matches!(rest, (Some(_), Some("report"), None)) { Place::Report } else { Place::Own };
    }
    if OPEN.contains(&first) && segments.next().is_none() {
        Place::Open
    } else if OWN.contains(&first) {
        Place::Own
    } else {
        Place::Api
    }
}

/// The rid in the path of a request's information or result, under any version.
pub fn rid(path: &str, mount: &str) -> Option<Rid> {
    let mut segments = path.strip_prefix(mount)?.strip_prefix('/')?.split('/');
    let first = segments.next()?;
    let first = if version(first).is_some() { segments.next()? } else { first };
    let rid = segments.next().filter(|_| first == "bgrs")?;
    matches!((segments.next(), segments.next()), (None, _) | (Some("result"), None)).then(|| rid.parse().ok())?
}

/// The answer to a path that leads nowhere.
pub fn not_found(path: &str, versions: &[&str]) -> Error {
    let first = path.split('/').nth(1).unwrap_or_default();
    match version(first) {
        Some(version) if !versions.is_empty() && !versions.contains(&version) => Error::not_found(format!(
            "There is no version {version} of this API; there is {}.",
            versions.iter().map(|v| format!("v{v}")).collect::<Vec<_>>().join(", ")
        )),
        _ => Error::not_found("There is nothing at this path; check its spelling."),
    }
}

/// `2.5` of `v2.5`.
fn version(segment: &str) -> Option<&str> {
    let version = segment.strip_prefix('v')?;
    (version.starts_with(|c: char| c.is_ascii_digit()) && version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        .then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_routes_are_whole_segments_under_any_version() {
        for path in ["/bgrs", "/bgrs/x", "/v2.5/bgrs/x", "/v9/bgrs", "/media/x", "/metrics", "/openapi.json"] {
            assert_eq!(of(path, ""), Place::Own, "{path}");
        }
        for path in ["/", "/bgrsx", "/v2.5/users/me", "/vx/bgrs", "/users/bgrs", "/healthz/x", "//bgrs"] {
            assert_eq!(of(path, ""), Place::Api, "{path}");
        }
        assert_eq!(of("/ui/overview", ""), Place::Own);
        for path in ["/healthz", "/ui", "/ui/", "/ui/api.js", "/ui/session"] {
            assert_eq!(of(path, ""), Place::Open, "{path}");
        }
        for path in ["/bgrs/x/report", "/v2.5/bgrs/x/report"] {
            assert_eq!(of(path, ""), Place::Report, "{path}");
        }
        for path in ["/bgrs/report", "/media/report", "/metrics/report", "/bgrs/x/y/report", "/v2.5/bgrs/report"] {
            assert_eq!(of(path, ""), Place::Own, "{path}");
        }
    }

    #[test]
    fn an_rid_is_told_from_what_is_around_it() {
        let text = "4ff7cc2d88b1de88e83cce3f1caa1509";
        for path in ["/bgrs/RID", "/bgrs/RID/result", "/v2.5/bgrs/RID", "/v2.5/bgrs/RID/result"] {
            let path = path.replace("RID", text);
            assert_eq!(rid(&path, "").map(|rid| rid.to_string()).as_deref(), Some(text), "{path}");
            assert_eq!(rid(&format!("/own{path}"), "/own").map(|rid| rid.to_string()).as_deref(), Some(text));
        }
        for path in ["/bgrs/RID/details", "/bgrs/RID/", "/bgrs/RID/result/", "/media/RID", "/RID", "/bgrs/x", "/bgrs"] {
            assert_eq!(rid(&path.replace("RID", text), ""), None, "{path}");
        }
    }

    #[test]
    fn a_mount_moves_the_own_routes_out_of_the_way() {
        assert_eq!(of("/own/bgrs/x", "/own"), Place::Own);
        assert_eq!(of("/own/healthz", "/own"), Place::Open);
        for path in ["/bgrs/x", "/healthz", "/ownbgrs", "/own", "/owner/bgrs"] {
            assert_eq!(of(path, "/own"), Place::Api, "{path}");
        }
    }

    #[test]
    fn an_unknown_version_is_answered_with_those_there_are() {
        assert!(not_found("/v1.0/users", &["2.5"]).to_string().contains("v2.5"));
        assert!(!not_found("/v2.5/nothing", &["2.5"]).to_string().contains("version"));
    }
}
