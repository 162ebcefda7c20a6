//! Reading a request: the head of one, of a bounded length, in bounded time, and nothing that could be read two ways.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Bytes of a request's head at most.
const MOST_BYTES: usize = 16 << 10;
/// Lines of it at most.
const MOST_LINES: usize = 100;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Request {
    /// `HEAD` instead of `GET`.
    pub(super) head_only: bool,
    /// Path, as it was sent.
    pub(super) path: String,
    /// What follows the question mark.
    pub(super) query: String,
    /// Names in small letters, values without space around them.
    headers: Vec<(String, String)>,
}

/// Why a request is not answered as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody is there any more, or nothing was said: no answer.
    Silence,
    /// It was not said in time.
    TooSlow,
    /// It is longer than any that a browser sends.
    TooLarge,
    /// It is no request of HTTP/1.
    Malformed,
    /// A page that only shows takes nothing.
    Method,
    /// A name that is not this machine's: a page of elsewhere may be behind it.
    Host,
    /// A page of elsewhere asks.
    Origin,
    /// The token is missing or wrong.
    Token,
    /// There is nothing there.
    NotFound,
    /// There are too many others.
    Busy,
}

impl Refusal {
    /// Status line and words.
    pub(super) fn answer(self) -> (&'static str, &'static str) {
        match self {
            Self::Silence => ("400 Bad Request", ""),
            Self::TooSlow => ("408 Request Timeout", "the request did not come in time"),
            Self::TooLarge => ("431 Request Header Fields Too Large", "the request is too large"),
            Self::Malformed => ("400 Bad Request", "this is no request of HTTP/1"),
            Self::Method => ("405 Method Not Allowed", "this page only shows: GET and HEAD"),
            Self::Host => ("403 Forbidden", "only localhost and loopback addresses are answered here"),
            Self::Origin => ("403 Forbidden", "pages of elsewhere are not answered here"),
            Self::Token => ("401 Unauthorized", "this page wants the token: open /?token=..."),
            Self::NotFound => ("404 Not Found", "there is nothing here; the page is at /"),
            Self::Busy => ("503 Service Unavailable", "too many pages are open; close some"),
        }
    }
}

impl Request {
    /// Reads the head of a request until `deadline`. `patience` sets how long the next read may wait.
    pub(super) fn read<R: Read>(
        source: &mut R,
        deadline: Instant,
        patience: impl Fn(&R, Duration) -> io::Result<()>,
    ) -> Result<Self, Refusal> {
        let (mut bytes, mut piece) = (Vec::new(), [0u8; 2048]);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Refusal::TooSlow);
            }
            patience(source, left).map_err(|_| Refusal::Silence)?;
            let read = match source.read(&mut piece) {
                Ok(0) => return Err(if bytes.is_empty() { Refusal::Silence } else { Refusal::Malformed }),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(if bytes.is_empty() { Refusal::Silence } else { Refusal::TooSlow });
                }
                Err(_) => return Err(Refusal::Silence),
            };
            // The end may lie across two pieces.
            let from = bytes.len().saturating_sub(3);
            bytes.extend_from_slice(&piece[..read]);
            if let Some(end) = bytes[from..].windows(4).position(|w| w == b"\r\n\r\n") {
                // What follows is another request; each connection has one, and is closed after it.
                bytes.truncate(from + end);
                break;
            }
            if bytes.len() > MOST_BYTES {
                return Err(Refusal::TooLarge);
            }
        }
        if bytes.len() > MOST_BYTES {
            return Err(Refusal::TooLarge);
        }
        Self::parse(&bytes)
    }

    /// Reads a head without the empty line at its end.
    fn parse(head: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(head).map_err(|_| Refusal::Malformed)?;
        if text.chars().any(|c| c.is_control() && !matches!(c, '\r' | '\n' | '\t')) {
            return Err(Refusal::Malformed);
        }
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let mut words = first.split(' ');
        let (method, target, version) = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(method), Some(target), Some(version), None) => (method, target, version),
            _ => return Err(Refusal::Malformed),
        };
        if !matches!(version, "HTTP/1.1" | "HTTP/1.0") || method.is_empty() {
            return Err(Refusal::Malformed);
        }
        if !method.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(Refusal::Malformed);
        }
        if !target.starts_with('/') || target.contains(['\r', '\n', '\t']) {
            return Err(if matches!(method, "GET" | "HEAD") { Refusal::Malformed } else { Refusal::Method });
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(Refusal::Malformed)?;
            let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\n']) {
                return Err(Refusal::Malformed);
            }
            headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
            if headers.len() > MOST_LINES {
                return Err(Refusal::TooLarge);
            }
        }
        let head_only = match method {
            "GET" => false,
            "HEAD" => true,
            _ => return Err(Refusal::Method),
        };
        let request = Self { head_only, path: path.to_owned(), query: query.to_owned(), headers };
        // Nothing is sent here, so a body is a second request in disguise.
        let has_body = request.header("content-length")?.is_some_and(|length| length != "0");
        if has_body || request.header("transfer-encoding")?.is_some() {
            return Err(Refusal::Malformed);
        }
        Ok(request)
    }

    /// A header that may stand once.
    pub(super) fn header(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let first = found.next().map(|(_, value)| value.as_str());
        if found.next().is_some() { Err(Refusal::Malformed) } else { Ok(first) }
    }

    /// A value of the query. Nothing is decoded: what is asked of it has no sign that needs it.
    pub(super) fn asked(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// A cookie's value.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let all = self.headers.iter().filter(|(known, _)| known == "cookie");
        all.flat_map(|(_, value)| value.split(';'))
            .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its pieces one by one, then has nothing.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.first_mut() else { return Err(io::ErrorKind::WouldBlock.into()) };
            let n = piece.len().min(into.len());
            into[..n].copy_from_slice(&piece[..n]);
            piece.drain(..n);
            if piece.is_empty() {
                self.0.remove(0);
            }
            Ok(n)
        }
    }

    fn read(pieces: &[&[u8]]) -> Result<Request, Refusal> {
        let mut source = Pieces(pieces.iter().map(|p| p.to_vec()).collect());
        Request::read(&mut source, Instant::now() + Duration::from_secs(5), |_, _| Ok(()))
    }

    const GOOD: &[u8] = b"GET /a?token=x&b=2 HTTP/1.1\r\nHost: localhost:1\r\ncookie: q=1; t=abc\r\n\r\n";

    #[test]
    fn a_request_is_read_whole_in_parts_and_with_another_behind_it() {
        let whole = read(&[GOOD]).unwrap();
        assert_eq!(
            (whole.path.as_str(), whole.query.as_str(), whole.head_only),
            ("/a", "token=x&b=2", false)
        );
        assert_eq!(whole.header("host"), Ok(Some("localhost:1")));
        assert_eq!((whole.asked("b"), whole.asked("token"), whole.asked("to")), (Some("2"), Some("x"), None));
        assert_eq!((whole.cookie("t"), whole.cookie("a")), (Some("abc"), None));
        for cut in 1..GOOD.len() {
            assert_eq!(read(&[&GOOD[..cut], &GOOD[cut..]]).as_ref(), Ok(&whole), "cut at {cut}");
        }
        let letters: Vec<&[u8]> = GOOD.chunks(1).collect();
        assert_eq!(read(&letters).as_ref(), Ok(&whole));
        assert_eq!(read(&[&[GOOD, GOOD].concat()]).as_ref(), Ok(&whole), "pipelined");
        assert!(read(&[b"HEAD / HTTP/1.0\r\n\r\n"]).unwrap().head_only);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let check = |text: &[u8], expected| {
            assert_eq!(read(&[text]).unwrap_err(), expected, "{}", String::from_utf8_lossy(text));
        };
        check(b"GET / HTTP/2\r\n\r\n", Refusal::Malformed);
        check(b"GET  / HTTP/1.1\r\n\r\n", Refusal::Malformed);
        check(b"get / HTTP/1.1\r\n\r\n", Refusal::Malformed);
        check(b"GET http://a/ HTTP/1.1\r\n\r\n", Refusal::Malformed);
        check(b"GET /\r\n\r\n", Refusal::Malformed);
        check(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", Refusal::Malformed);
        check(b"GET / HTTP/1.1\r\na b: c\r\n\r\n", Refusal::Malformed);
        check(b"GET / HTTP/1.1\r\na: b\n c\r\n\r\n", Refusal::Malformed);
        check(b"GET / HTTP/1.1\r\na: \0\r\n\r\n", Refusal::Malformed);
        check(b"GET /\xff HTTP/1.1\r\n\r\n", Refusal::Malformed);
        check(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", Refusal::Malformed);
        check(b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", Refusal::Malformed);
        check(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::Malformed);
        check(b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", Refusal::Malformed);
        check(b"POST / HTTP/1.1\r\n\r\n", Refusal::Method);
        check(b"OPTIONS * HTTP/1.1\r\n\r\n", Refusal::Method);
        check(b"CONNECT a:1 HTTP/1.1\r\n\r\n", Refusal::Method);
    }

    #[test]
    fn what_is_too_long_or_too_slow_is_refused() {
        let long = [b"GET /".to_vec(), vec![b'a'; 1 << 20], b" HTTP/1.1\r\n\r\n".to_vec()].concat();
        assert_eq!(read(&[&long]), Err(Refusal::TooLarge));
        let endless = vec![b'a'; 1 << 20];
        assert_eq!(read(&[&endless]), Err(Refusal::TooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
        assert_eq!(read(&[many.as_bytes()]), Err(Refusal::TooLarge));
        assert_eq!(read(&[&GOOD[..20]]), Err(Refusal::TooSlow));
        assert_eq!(read(&[]), Err(Refusal::Silence));
        let mut source = Pieces(vec![GOOD.to_vec()]);
        assert_eq!(Request::read(&mut source, Instant::now(), |_, _| Ok(())), Err(Refusal::TooSlow));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut bits = isoflop_base::bits::SplitMix64(7);
        for _ in 0..20_000 {
            let mut bytes = GOOD.to_vec();
            for _ in 0..1 + bits.next_u64() % 4 {
                let at = bits.next_u64() as usize % bytes.len();
                bytes[at] = bits.next_u64() as u8;
            }
            let _ = read(&[&bytes]);
        }
    }
}
