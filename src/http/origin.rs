//! Where a call came from: the connection's other end, and what a trusted proxy in front says.

use std::net::IpAddr;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderValue};

use crate::dispatch::headers::Origin;
use crate::routing::Proxy;

/// What an upstream is told.
pub fn of<'a>(req: &'a ServiceRequest, trusted: &[Proxy]) -> Origin<'a> {
    let peer = peer(req);
    // What an absolute target names goes before the field (RFC 9112 section 3.2.2).
    let named = req.uri().authority().map(|authority| authority.as_str());
    let named = named.map(|authority| authority.rsplit_once('@').map_or(authority, |(_, host)| host));
    let field = || req.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    Origin { peer, host: named.or_else(field), trusted: is_trusted(peer, trusted) }
}

/// Whose address it is that calls: the last one in `X-Forwarded-For` that no trusted proxy has.
pub fn address(req: &ServiceRequest, trusted: &[Proxy]) -> Option<IpAddr> {
    let mut address = peer(req);
    if !is_trusted(address, trusted) {
        return address;
    }
    let said: Vec<_> = req
        .headers()
        .get_all("x-forwarded-for")
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|text| text.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical()))
        .collect();
    for said in said.into_iter().rev() {
        // What is no address says nothing about those before it either.
        let Some(said) = said else { break };
        address = Some(said);
        if !is_trusted(address, trusted) {
            break;
        }
    }
    address
}

fn peer(req: &ServiceRequest) -> Option<IpAddr> {
    req.peer_addr().map(|peer| peer.ip().to_canonical())
}

fn is_trusted(address: Option<IpAddr>, trusted: &[Proxy]) -> bool {
    trusted.iter().any(|proxy| proxy.is_at(address))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn found(peer: &str, said: &[&str]) -> String {
        let mut req = TestRequest::default().peer_addr(std::net::SocketAddr::new(peer.parse().unwrap(), 1));
        for value in said {
            req = req.append_header(("x-forwarded-for", *value));
        }
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        address(&req.to_srv_request(), &trusted).unwrap().to_string()
    }

    #[test]
    fn the_caller_is_the_last_address_that_no_trusted_proxy_has() {
        for (peer, said, whose) in [
            ("192.0.2.1", &["1.1.1.1"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["1.1.1.1, 2.2.2.2", "10.0.0.2"], "2.2.2.2"),
            ("10.0.0.1", &["1.1.1.1, x, 10.0.0.2"], "10.0.0.2"),
        ] {
            assert_eq!(found(peer, said), whose, "{peer} {said:?}");
        }
    }
}
