//! Who is answered. Any page of the web can make a browser ask addresses of this machine, under a name of its own that
//! leads here (DNS rebinding) or from a script: so the name must be this machine's, and the asking page this one.

use super::request::{Refusal, Request};
use std::net::IpAddr;

/// The cookie that carries the token once the page was opened with it.
pub(super) const COOKIE: &str = "isoflop";

/// What is asked of whoever asks.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// Wanted on each request, if set.
    pub(super) token: Option<String>,
    /// Whether only this machine can reach the page, by one of its own names.
    pub(super) loopback: bool,
}

impl Guard {
    /// Whether a request may be answered.
    pub(super) fn check(&self, request: &Request) -> Result<(), Refusal> {
        let host = request.header("host")?.ok_or(Refusal::Host)?;
        if self.loopback && !is_of_this_machine(host) {
            return Err(Refusal::Host);
        }
        if let Some(origin) = request.header("origin")?
            && origin.strip_prefix("http://") != Some(host)
        {
            return Err(Refusal::Origin);
        }
        // A link elsewhere may open the page, but nothing elsewhere may ask for what it shows.
        let opens = request.path == "/" && request.header("sec-fetch-mode")? == Some("navigate");
        let site = request.header("sec-fetch-site")?;
        if !opens && !matches!(site, None | Some("same-origin" | "none")) {
            return Err(Refusal::Origin);
        }
        match &self.token {
            Some(token) if !self.is_known(request, token) => Err(Refusal::Token),
            _ => Ok(()),
        }
    }

    fn is_known(&self, request: &Request, token: &str) -> bool {
        [request.asked("token"), request.cookie(COOKIE)]
            .into_iter()
            .flatten()
            .any(|said| are_equal(said.as_bytes(), token.as_bytes()))
    }
}

/// Whether a host with or without a port is a name of this machine alone.
fn is_of_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || is_port(port) => address,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, _)) if is_port(&host[name.len()..]) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `:8080`.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok())
}

/// Whether two are equal, in a time that does not tell how much of them is.
fn are_equal(a: &[u8], b: &[u8]) -> bool {
    let mut differ = a.len() ^ b.len();
    for (index, byte) in b.iter().enumerate() {
        differ |= usize::from(byte ^ a.get(index).copied().unwrap_or(!byte));
    }
    std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn request(lines: &str) -> Request {
        let text = format!("GET {lines}\r\n\r\n");
        Request::read(&mut text.as_bytes(), Instant::now() + Duration::from_secs(5), |_, _| Ok(())).unwrap()
    }

    fn check(guard: &Guard, lines: &str) -> Result<(), Refusal> {
        guard.check(&request(lines))
    }

    const OPEN: Guard = Guard { token: None, loopback: true };

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:8080"] {
            assert_eq!(check(&OPEN, &format!("/ HTTP/1.1\r\nHost: {host}")), Ok(()), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "example.com:8080",
            "127.0.0.1.example.com",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "[::1",
            "[::1]x",
            "localhost:",
            "localhost:99999",
            "localhost:80:80",
            "",
            "::1",
            "2130706433",
            "user@localhost",
        ] {
            assert_eq!(check(&OPEN, &format!("/ HTTP/1.1\r\nHost: {host}")), Err(Refusal::Host), "{host}");
        }
        assert_eq!(check(&OPEN, "/ HTTP/1.0"), Err(Refusal::Host));
        let two = "/ HTTP/1.1\r\nHost: localhost\r\nHost: example.com";
        assert_eq!(check(&OPEN, two), Err(Refusal::Malformed));
    }

    #[test]
    fn pages_of_elsewhere_may_lead_here_and_read_nothing() {
        let with = |path: &str, more: &str| {
            check(&OPEN, &format!("{path} HTTP/1.1\r\nHost: localhost:8080\r\n{more}"))
        };
        assert_eq!(with("/events", "Origin: http://localhost:8080"), Ok(()));
        for origin in ["http://example.com", "http://localhost:9090", "https://localhost:8080", "null", ""] {
            assert_eq!(with("/events", &format!("Origin: {origin}")), Err(Refusal::Origin), "{origin}");
        }
        assert_eq!(with("/events", "Sec-Fetch-Site: same-origin"), Ok(()));
        assert_eq!(with("/", "Sec-Fetch-Site: none"), Ok(()));
        for site in ["cross-site", "same-site"] {
            let plain = format!("Sec-Fetch-Site: {site}");
            let opening = format!("{plain}\r\nSec-Fetch-Mode: navigate");
            assert_eq!(with("/", &plain), Err(Refusal::Origin));
            assert_eq!(with("/", &opening), Ok(()));
            assert_eq!(with("/events", &opening), Err(Refusal::Origin));
        }
    }

    #[test]
    fn a_token_is_wanted_on_each_request() {
        let guard = Guard { token: Some("0123456789abcdef".to_owned()), loopback: false };
        let with =
            |path: &str, more: &str| check(&guard, &format!("{path} HTTP/1.1\r\nHost: lab:8080{more}"));
        assert_eq!(with("/?token=0123456789abcdef", ""), Ok(()));
        assert_eq!(with("/events", "\r\nCookie: isoflop=0123456789abcdef"), Ok(()));
        for path in [
            "/",
            "/?token=",
            "/?token=0123456789abcde",
            "/?token=0123456789abcdeff",
            "/?token=0123456789abcdeg",
        ] {
            assert_eq!(with(path, ""), Err(Refusal::Token), "{path}");
        }
        assert_eq!(with("/events", "\r\nCookie: isoflop=x"), Err(Refusal::Token));
        assert_eq!(with("/events", "\r\nCookie: other=0123456789abcdef"), Err(Refusal::Token));
    }

    #[test]
    fn equal_is_equal_and_nothing_else_is() {
        for (a, b, equal) in
            [("", "", true), ("a", "a", true), ("a", "b", false), ("a", "ab", false), ("ab", "a", false)]
        {
            assert_eq!(are_equal(a.as_bytes(), b.as_bytes()), equal, "{a} {b}");
        }
    }
}
