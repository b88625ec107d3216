//! Whose word counts on where a call came from.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A proxy in front that is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// Any within this net.
    Net(IpNet),
    /// Whoever can open the server's Unix socket.
    Unix,
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(Self::Net).map_err(|_| format!("{text:?} is not an address, a net such as \"10.0.0.0/8\", or \"unix\""))
    }
}

impl Proxy {
    /// Whether it is the one at this address; `None`: at the Unix socket.
    #[must_use]
    pub fn is_at(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::Net(net), Some(address)) => net.contains(&address.to_canonical()),
            (Self::Unix, None) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_address_a_net_or_the_socket() {
        let at = |text: &str, address: &str| text.parse::<Proxy>().unwrap().is_at(Some(address.parse().unwrap()));
        assert!(at("10.0.0.0/8", "10.1.2.3"));
        assert!(at("127.0.0.1", "127.0.0.1"));
        assert!(at("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(at("2001:db8::/32", "2001:db8::1"));
        assert!(!at("10.0.0.0/8", "11.0.0.1"));
        assert!(!at("unix", "127.0.0.1"));
        assert!("unix".parse::<Proxy>().unwrap().is_at(None));
        assert!("nowhere".parse::<Proxy>().is_err());
    }
}
