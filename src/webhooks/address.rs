//! Where a callback may go: which URLs, and which addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::Uri;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Bytes of a callback's URL at most.
const LONGEST: usize = 2048;

/// What is not the Internet's by IANA's registry of special-purpose addresses (RFC 6890), and multicast.
const NOT_PUBLIC_V4: [Ipv4Net; 14] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    // Multicast, what is reserved, and broadcast.
    v4([224, 0, 0, 0], 3),
];

/// Of IPv6 nothing else is the Internet's.
const UNICAST: Ipv6Net = v6(0x2000, 0, 3);

/// What is not of it: protocol assignments with Teredo, documentation twice, and 6to4.
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [v6(0x2001, 0, 23), v6(0x2001, 0x0db8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];

/// Addresses that a translator makes of IPv4 ones (RFC 6052).
const NAT64: Ipv6Net = v6(0x0064, 0xff9b, 96);

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(first: u16, second: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), length)
}

/// A network that callbacks may go to although it is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(Self).map_err(|_| format!("{text:?} is not an address, or a net such as \"10.0.0.0/8\""))
    }
}

/// Networks that callbacks may go to although they are not public, and over plain http.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow(Vec<Network>);

impl From<Vec<Network>> for Allow {
    fn from(networks: Vec<Network>) -> Self {
        Self(networks)
    }
}

impl Allow {
    /// Whether a callback may go to this address; `plain`: over http.
    #[must_use]
    pub fn takes(&self, address: IpAddr, plain: bool) -> bool {
        self.names(address) || !plain && is_public(address)
    }

    fn names(&self, address: IpAddr) -> bool {
        let within = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => within(address).map(IpAddr::V4),
        };
        let named = |address: &IpAddr| self.0.iter().any(|Network(net)| net.contains(address));
        named(&address) || within.is_some_and(|within| named(&within))
    }

    fn judge(&self, address: IpAddr, plain: bool) -> Result<(), Refused> {
        match self.takes(address, plain) {
            true => Ok(()),
            false if plain => Err(Refused::Plain),
            false => Err(Refused::Address),
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => match within(address) {
            Some(within) => is_public(IpAddr::V4(within)),
            None => UNICAST.contains(&address) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&address)),
        },
    }
}

/// The IPv4 address at which a connection to this one ends.
fn within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    address.to_ipv4_mapped().or_else(|| NAT64.contains(&address).then(|| Ipv4Addr::new(a, b, c, d)))
}

/// Why there is no callback to a URL: a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has too many bytes.
    #[error("The callback's URL is longer than {} bytes; send a shorter one.", LONGEST)]
    TooLong,
    /// It is none.
    #[error("The callback is not a URL ({0}); send one such as https://example.org/hook.")]
    Malformed(String),
    /// It is not of the web.
    #[error("The callback's URL is not an https one; send one such as https://example.org/hook.")]
    Scheme,
    /// It has credentials in it, which would be stored and shown.
    #[error("The callback's URL has a login or password in it; leave them out.")]
    UserInfo,
    /// It has a fragment, which no server ever sees.
    #[error("The callback's URL has a part behind # in it; leave it out.")]
    Fragment,
    /// Whoever is in between could read and change what is sent.
    #[error("Plain http goes only to networks that the server's webhooks.allow names; send an https URL.")]
    Plain,
    /// It leads into a network that is not the caller's to reach.
    #[error("The callback's URL leads to an address that is not public; send another, or have webhooks.allow name it.")]
    Address,
}

/// A URL that a callback may go to. An address in it is one of those that may be; a name's are looked at when it is
/// connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    url: Url,
    uri: Uri,
}

impl Callback {
    /// Checks a URL. Addresses are judged however they are written: decimal, octal, hexadecimal, mapped into IPv6.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn parse(text: &str, allow: &Allow) -> Result<Self, Refused> {
        if text.len() > LONGEST {
            return Err(Refused::TooLong);
        }
        // The URL standard drops some of them.
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(Refused::Malformed("a space or a control character is in it".to_owned()));
        }
        let url = Url::parse(text).map_err(|error| Refused::Malformed(error.to_string()))?;
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(Refused::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(Refused::Fragment);
        }
        match url.host() {
            Some(Host::Ipv4(address)) => allow.judge(IpAddr::V4(address), plain)?,
            Some(Host::Ipv6(address)) => allow.judge(IpAddr::V6(address), plain)?,
            // No address that the name may have is allowed.
            _ if plain && allow.0.is_empty() => return Err(Refused::Plain),
            _ => {}
        }
        let uri = url.as_str().parse::<Uri>().map_err(|error| Refused::Malformed(error.to_string()))?;
        Ok(Self { url, uri })
    }

    /// The URL, in the one form that is kept and called.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The URL as the client takes it.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it is sent without encryption.
    pub(super) fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }
}

/// Of a URL as [`Callback::as_str`] gives it: scheme, host and port, with the slash behind them.
#[must_use]
pub fn site(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |slash| &url[..=host + slash])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allow(networks: &[&str]) -> Allow {
        Allow(networks.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn takes(text: &str, allow: &Allow) -> bool {
        allow.takes(text.parse().unwrap(), false)
    }

    #[test]
    fn only_public_addresses_are_taken_unless_others_are_allowed() {
        const REFUSED: &str = "\
            0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255 \
            169.254.169.254 172.16.0.0 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.255.255 198.18.0.0 \
            198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 \
            ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 2001::1 \
            2001:2::1 2001:20::1 2001:db8::1 2002:808:808::1 3fff::1 5f00::1 fc00::1 fdff::1 fe80::1 fec0::1 \
            ff02::1";
        const PUBLIC: &str = "\
            1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 192.0.1.0 \
            192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 ::ffff:8.8.8.8 \
            64:ff9b::8.8.8.8 2001:200::1 2606:4700::1111 2a00::1";
        let nothing = Allow::default();
        for refused in REFUSED.split(' ') {
            assert!(!takes(refused, &nothing), "{refused}");
            assert!(takes(refused, &allow(&["10.0.0.0/8", refused])), "{refused}");
        }
        for public in PUBLIC.split(' ') {
            assert!(takes(public, &nothing), "{public}");
            assert!(!nothing.takes(public.parse().unwrap(), true), "{public}");
        }
    }

    #[test]
    fn what_is_allowed_is_so_for_the_ipv4_address_within_too() {
        let allow = allow(&["127.0.0.0/8", "fd00::/8"]);
        for address in ["127.1.2.3", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "fd12::1"] {
            assert!(takes(address, &allow) && allow.takes(address.parse().unwrap(), true), "{address}");
        }
        for address in ["10.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "::127.0.0.1", "fc00::1"] {
            assert!(!takes(address, &allow), "{address}");
        }
        assert!("nowhere".parse::<Network>().is_err());
    }

    #[test]
    fn a_url_is_refused_for_what_is_wrong_with_it() {
        let refusal = |url: &str, allow: &Allow| Callback::parse(url, allow).err().map(|why| why.to_string());
        let nothing = Allow::default();
        let long = format!("https://example.org/{}", "x".repeat(LONGEST));
        for (url, word) in [
            ("", "not a URL"),
            ("hook", "not a URL"),
            ("https://", "not a URL"),
            ("https:// example.org/", "not a URL"),
            ("https://example.org/\n", "not a URL"),
            ("https://example.org:99999/", "not a URL"),
            ("https://1.2.3.256/", "not a URL"),
            (long.as_str(), "longer"),
            ("ftp://example.org/", "not an https one"),
            ("file:///etc/passwd", "not an https one"),
            ("https://user@example.org/", "password"),
            ("https://:word@example.org/", "password"),
            ("https://example.org/#there", "#"),
            ("http://example.org/", "Plain http"),
            ("http://8.8.8.8/", "Plain http"),
            ("https://0x7f.1/", "not public"),
            ("https://１２７.0.0.1/", "not public"),
            ("https://%31%32%37.0.0.1./", "not public"),
        ] {
            let why = refusal(url, &nothing).unwrap_or_default();
            assert!(why.contains(word), "{url}: {why:?}");
        }
        let local = allow(&["127.0.0.0/8"]);
        for url in ["https://example.org", "https://localhost:1/x?y=%20z", "https://8.8.8.8/"] {
            assert_eq!(refusal(url, &nothing), None);
            assert_eq!(refusal(url, &local), None);
        }
        for url in ["http://127.0.0.1:1/", "http://[::ffff:127.0.0.1]/", "http://name.example/"] {
            assert_eq!(refusal(url, &local), None);
        }
        assert_eq!(refusal("http://8.8.8.8/", &local), Some(Refused::Plain.to_string()));
        assert_eq!(refusal("https://10.0.0.1/", &local), Some(Refused::Address.to_string()));
    }

    #[test]
    fn a_site_is_a_urls_beginning_up_to_its_path() {
        for (url, begins) in [
            ("https://a.example/x/y?z=/", "https://a.example/"),
            ("http://127.0.0.1:80/", "http://127.0.0.1:80/"),
            ("https://[::1]:1/x", "https://[::1]:1/"),
            ("https://a.example", "https://a.example"),
        ] {
            assert_eq!(site(url), begins);
        }
    }

    /// Ways to write an IPv4 address as a host.
    fn spellings(number: u32) -> [String; 8] {
        let address = Ipv4Addr::from(number);
        let [a, b, c, d] = address.octets();
        [
            address.to_string(),
            number.to_string(),
            format!("{number:#x}"),
            format!("0{number:o}"),
            format!("0{a:o}.{b:#X}.{}", number & 0xffff),
            format!("{a}.{b}.{c}.{d}."),
            format!("[::ffff:{address}]"),
            format!("[0:0:0:0:0:ffff:{:x}:{:x}]", number >> 16, number & 0xffff),
        ]
    }

    proptest! {
        #[test]
        fn an_address_is_judged_alike_however_it_is_written(
            number in prop_oneof![any::<u32>(), 0x7f00_0000..=0x7fff_ffff_u32, 0x0a00_0000..=0x0aff_ffff_u32]
        ) {
            let address = IpAddr::V4(Ipv4Addr::from(number));
            let (nothing, this) = (Allow::default(), Allow(vec![Network(IpNet::from(address))]));
            for spelling in spellings(number) {
                let (plain, secure) = (format!("http://{spelling}/"), format!("https://{spelling}/"));
                prop_assert_eq!(Callback::parse(&secure, &nothing).is_ok(), is_public(address), "{}", secure);
                prop_assert!(Callback::parse(&plain, &nothing).is_err(), "{}", plain);
                prop_assert!(Callback::parse(&secure, &this).is_ok(), "{}", secure);
                prop_assert!(Callback::parse(&plain, &this).is_ok(), "{}", plain);
            }
        }

        #[test]
        fn whatever_is_taken_is_taken_again_in_the_form_in_which_it_is_kept(text in "https?://\\PC{0,30}") {
            let everything = allow(&["0.0.0.0/0", "::/0"]);
            if let Ok(callback) = Callback::parse(&text, &everything) {
                let again = Callback::parse(callback.as_str(), &everything);
                prop_assert_eq!(again, Ok(callback));
            }
        }
    }
}
