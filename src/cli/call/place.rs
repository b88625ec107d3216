//! Where a background request is.

use bgrs::model::Rid;
use url::Url;

/// A request's id, and the server that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub rid: Rid,
    /// The server's URL, with what stands before its own routes, without a slash at the end.
    server: String,
}

impl Place {
    /// The place that a `Location` names, seen from the URL that answered with it; `None` where it is none of a request,
    /// or is elsewhere: credentials go to nobody but whom they are meant for.
    pub fn named(location: &str, by: &Url) -> Option<Self> {
        let url = by.join(location).ok().filter(|url| url.origin() == by.origin())?;
        let (mount, rid) = url.path().rsplit_once("/bgrs/")?;
        Some(Self { rid: rid.parse().ok()?, server: format!("{}{mount}", url.origin().ascii_serialization()) })
    }

    /// The places that a request may have on a URL's server: below its path, which may be `server.mount`, then at the root.
    pub fn candidates(rid: Rid, url: &Url) -> Vec<Self> {
        let origin = url.origin().ascii_serialization();
        let below = url.path().trim_end_matches('/');
        let mut paths = vec![below, ""];
        paths.dedup();
        paths.into_iter().map(|path| Self { rid, server: format!("{origin}{path}") }).collect()
    }

    /// The server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The request itself: its information, and what is deleted to cancel it.
    pub fn request(&self) -> String {
        format!("{}/bgrs/{}", self.server, self.rid)
    }

    /// Its information, as soon as it has ended or after so many seconds.
    pub fn information(&self, wait: u32) -> String {
        format!("{}?wait={wait}", self.request())
    }

    /// A page of its details, those after an id.
    pub fn details(&self, after: u64, limit: usize) -> String {
        format!("{}/details?after={after}&limit={limit}", self.request())
    }

    /// Its result.
    pub fn result(&self) -> String {
        format!("{}/result", self.request())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RID: &str = "019ab23c8f0de88e83cce3f1caa15090";

    fn named(location: &str) -> Option<String> {
        let by = Url::parse("https://api.example:8443/reports/yearly?x=1").unwrap();
        Place::named(&location.replace("RID", RID), &by).map(|place| place.request().replace(RID, "RID"))
    }

    #[test]
    fn a_location_is_of_a_request_and_on_the_same_server() {
        let here = "https://api.example:8443";
        assert_eq!(named("/bgrs/RID"), Some(format!("{here}/bgrs/RID")));
        assert_eq!(named("/background/bgrs/RID"), Some(format!("{here}/background/bgrs/RID")));
        assert_eq!(named(&format!("{here}/bgrs/RID")), Some(format!("{here}/bgrs/RID")));
        for odd in
            ["/bgrs/", "/bgrs/RID/result", "/jobs/RID", "//evil.example/bgrs/RID", "http://api.example:8443/bgrs/RID"]
        {
            assert_eq!(named(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_path_may_be_the_mount() {
        let rid = RID.parse().unwrap();
        let servers = |url: &str| -> Vec<String> {
            let places = Place::candidates(rid, &Url::parse(url).unwrap());
            places.iter().map(|place| place.server().to_owned()).collect()
        };
        assert_eq!(servers("http://[::1]:8080/"), ["http://[::1]:8080"]);
        assert_eq!(servers("http://a.example/background/?x"), ["http://a.example/background", "http://a.example"]);
    }
}
