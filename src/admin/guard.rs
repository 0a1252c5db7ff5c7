//! Which requests may change something: not those of another site's page in an operator's browser.
//!
//! Any web page can make a browser send a POST to 127.0.0.1. Browsers say where such a request
//! comes from (`Sec-Fetch-Site`, `Origin`); a request from another site is refused. A page's own
//! host name can also be resolved to 127.0.0.1, and the request is then of the same origin; so the
//! name in the request must be one of ours, or an address. No browser uses a unix socket.

use hyper::HeaderMap;
use hyper::header::{HOST, HeaderName, ORIGIN};
use std::net::IpAddr;

/// Says whether a request may change something.
#[derive(Debug)]
pub(super) struct Guard {
    /// Lower case.
    hosts: Vec<String>,
}

impl Guard {
    /// Besides `hosts`, the host's own name and `localhost` are good.
    pub(super) fn new(hosts: &[String]) -> Self {
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let all = hosts.iter().cloned().chain([own, "localhost".to_owned()]);
        Self { hosts: all.map(|host| host.to_ascii_lowercase()).collect() }
    }

    /// Whether a request over TCP with these headers may change something; the reason if not.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        let text = |name: HeaderName| {
            headers.get(name).map(|value| value.to_str().unwrap_or("").to_ascii_lowercase())
        };
        let site = text(HeaderName::from_static("sec-fetch-site"));
        if site.is_some_and(|site| site != "same-origin" && site != "none") {
            return Err("a page of another site asks for this".into());
        }
        let Some(host) = text(HOST) else {
            return Err("the request names no host".into());
        };
        if text(ORIGIN).is_some_and(|origin| origin != format!("http://{host}")) {
            return Err("a page of another origin asks for this".into());
        }
        let name = host_name(&host);
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        if is_address || self.hosts.iter().any(|own| own == name) {
            return Ok(());
        }
        Err(format!("'{name}' is not a name of this host; --admin-host {name} makes it one"))
    }
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_of_our_own_pages_may_change_something() {
        let guard = Guard::new(&["Cache1.example".to_owned()]);
        let cases: &[(bool, &[(&str, &str)])] = &[
            (true, &[("host", "127.0.0.1:9550")]),
            (true, &[("host", "[::1]:9550")]),
            (true, &[("host", "10.1.2.3")]),
            (true, &[("host", "localhost:9550")]),
            (true, &[("host", "cache1.EXAMPLE:9550")]),
            (true, &[("host", "127.0.0.1:9550"), ("origin", "http://127.0.0.1:9550")]),
            (true, &[("host", "127.0.0.1:9550"), ("sec-fetch-site", "same-origin")]),
            (true, &[("host", "127.0.0.1:9550"), ("sec-fetch-site", "none")]),
            (false, &[]),
            (false, &[("host", "evil.example:9550")]),
            (false, &[("host", "evil.example:9550"), ("origin", "http://evil.example:9550")]),
            (false, &[("host", "127.0.0.1:9550"), ("origin", "http://evil.example")]),
            (false, &[("host", "127.0.0.1:9550"), ("origin", "http://127.0.0.1:80")]),
            (false, &[("host", "127.0.0.1:9550"), ("origin", "https://127.0.0.1:9550")]),
            (false, &[("host", "127.0.0.1:9550"), ("origin", "null")]),
            (false, &[("host", "127.0.0.1:9550"), ("sec-fetch-site", "cross-site")]),
            (false, &[("host", "127.0.0.1:9550"), ("sec-fetch-site", "same-site")]),
            (false, &[("host", "127.0.0.1.evil.example")]),
        ];
        for (may, named) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in *named {
                headers.insert(HeaderName::from_static(name), value.parse().expect("text"));
            }
            let checked = guard.check(&headers);
            assert_eq!(checked.is_ok(), *may, "{named:?}: {checked:?}");
        }
    }
}
