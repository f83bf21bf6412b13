//! Which names this endpoint answers to. A browser that was tricked by a rebound name (DNS rebinding) sends the attacker's name as
//! the host: it gets no facts of this node.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

/// Whether a request is meant for this endpoint: exactly one `Host`, which is an IP address, `localhost`, or one of `names`.
pub(super) fn is_ours(headers: &HeaderMap, names: &[String]) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    host.to_str().is_ok_and(|host| is_known(host, names))
}

fn is_known(host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if port.is_empty() || port.starts_with(':') => address,
        Some(_) => return false,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn addresses_localhost_and_listed_names_are_ours_and_nothing_else() {
        let names = ["node-0.example.org".to_owned()];
        for host in
            ["127.0.0.1", "10.0.0.7:9602", "[::1]:9602", "[::1]", "localhost:9602", "LOCALHOST", "Node-0.example.org:1"]
        {
            assert!(is_known(host, &names), "{host}");
        }
        for host in ["", "evil.example:9602", "localhost.evil.example", "127.0.0.1.evil.example", "[::1]x", "[evil]:1"]
        {
            assert!(!is_known(host, &names), "{host}");
        }
    }

    #[test]
    fn two_hosts_or_none_are_refused() {
        let mut headers = HeaderMap::new();
        assert!(!is_ours(&headers, &[]));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(is_ours(&headers, &[]));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(!is_ours(&headers, &[]));
    }
}
