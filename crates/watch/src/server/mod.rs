//! The page's server: the one part of the program that listens.
//!
//! It binds an address of this machine only, unless a token is set that every request must then carry. It takes GET and
//! HEAD, reads one short request a connection within seconds, answers from memory, and closes; an open page keeps one
//! connection for news. Threads and connections are bounded, so neither many pages nor a flood harms the machine, and
//! what is shown comes from files that are only read.

mod guard;
mod hub;
mod request;

use crate::law::{self, Asked};
use crate::message::Detail;
use crate::store::Seen;
use guard::{COOKIE, Guard};
use hub::{Hub, Next};
use isoflop_lab::{Stop, UserError};
use request::{Refusal, Request};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Time between two looks at the store.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// Time for a request to arrive.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
/// Time for an answer, or a piece of news, to be taken.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// A sign of life for pages without news.
const SIGN_EVERY: Duration = Duration::from_secs(5);
/// Connections at most.
const MOST_CONNECTIONS: usize = 300;
/// Of them, open pages.
const MOST_PAGES: usize = 200;
/// Stack of a connection's thread.
const STACK: usize = 256 << 10;
/// Ports after the usual one that are tried when it is taken.
const OTHER_PORTS: u16 = 20;
/// A fit is made again when this many times its own time has passed: at most a fifth of one core.
const FIT_REST: u32 = 4;
/// Characters of a token at least.
const LEAST_TOKEN: usize = 16;

/// The parts of the page: path, type, bytes.
const PARTS: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("../page/page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("../page/page.css")),
    ("/words.js", JAVASCRIPT, include_str!("../page/words.js")),
    ("/data.js", JAVASCRIPT, include_str!("../page/data.js")),
    ("/scale.js", JAVASCRIPT, include_str!("../page/scale.js")),
    ("/pen.js", JAVASCRIPT, include_str!("../page/pen.js")),
    ("/figure.js", JAVASCRIPT, include_str!("../page/figure.js")),
    ("/figures.js", JAVASCRIPT, include_str!("../page/figures.js")),
    ("/table.js", JAVASCRIPT, include_str!("../page/table.js")),
    ("/view.js", JAVASCRIPT, include_str!("../page/view.js")),
    ("/page.js", JAVASCRIPT, include_str!("../page/page.js")),
];
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing but the page's own parts: no other script, no other address, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' \
                      data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where and for whom to listen.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The store.
    pub store: PathBuf,
    /// Which of the machine's addresses.
    pub address: IpAddr,
    /// Which port; 0 is any that is free. `None` is `usual`, or one of those after it.
    pub port: Option<u16>,
    /// The port if none was asked for.
    pub usual: u16,
    /// Wanted on each request.
    pub token: Option<String>,
}

/// A server that listens and has not answered yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    taken: Option<u16>,
    guard: Guard,
    hub: Arc<Hub>,
    store: PathBuf,
}

impl Server {
    /// Binds its address.
    ///
    /// # Errors
    /// A [`UserError`]: an address others can reach and no token, a port that is taken.
    pub fn bind(settings: Settings) -> Result<Self, UserError> {
        let Settings { store, address, port, usual, token } = settings;
        let loopback = address.is_loopback();
        match &token {
            None if !loopback => {
                return Err(UserError::new(format!("{address} can be reached from other machines"))
                    .hint("leave --address out and use an SSH tunnel, or set --token FILE, which is then wanted on each request"));
            }
            Some(token) if token.len() < LEAST_TOKEN || !token.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                return Err(UserError::new(format!("a token has {LEAST_TOKEN} letters and digits or more"))
                    .hint("make one with `openssl rand -hex 16`"));
            }
            _ => {}
        }
        let bind = |port: u16| TcpListener::bind(SocketAddr::new(address, port));
        let mut bound = bind(port.unwrap_or(usual));
        let mut taken = None;
        if let (Err(e), None) = (&bound, port)
            && e.kind() == io::ErrorKind::AddrInUse
        {
            taken = Some(usual);
            bound = (1..=OTHER_PORTS)
                .find_map(|i| bind(usual + i).ok())
                .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "and those after it are taken too"));
        }
        let failed = |e: &io::Error| {
            let port = port.unwrap_or(usual);
            let hint = match e.kind() {
                io::ErrorKind::AddrInUse => "another program listens there; --port 0 takes any that is free",
                io::ErrorKind::PermissionDenied => "ports below 1024 are the system's; take a higher one",
                _ => "check --address and --port",
            };
            UserError::new(format!("cannot listen at {address} port {port}: {e}")).hint(hint)
        };
        let listener = bound.map_err(|e| failed(&e))?;
        let address = listener.local_addr().map_err(|e| failed(&e))?;
        let hub = Arc::new(Hub::new(Seen::new(&store)));
        Ok(Self { listener, address, taken, guard: Guard { token, loopback }, hub, store })
    }

    /// Where the page is.
    pub fn url(&self) -> String {
        let token = self.guard.token.as_ref().map(|token| format!("?token={token}")).unwrap_or_default();
        format!("http://{}/{token}", self.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The usual port, if it was taken and another was bound.
    pub fn taken(&self) -> Option<u16> {
        self.taken
    }

    /// Answers until it is to stop.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn run(self, stop: &Stop) -> io::Result<()> {
        let Self { listener, guard, hub, store, .. } = self;
        let accepting = Arc::clone(&hub);
        std::thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || accept(&listener, &guard, &accepting))?;
        let fitting = Arc::clone(&hub);
        std::thread::Builder::new().name("fit".to_owned()).spawn(move || fit(&fitting, &store))?;
        crate::step_back(5);
        while stop.reason().is_none() {
            let began = Instant::now();
            // Of a large store a piece at a time: pages show what there is.
            if !hub.look() {
                let rest = LOOK_EVERY.saturating_sub(began.elapsed()).max(LOOK_EVERY / 4);
                let until = Instant::now() + rest;
                while stop.reason().is_none() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        hub.close();
        Ok(())
    }
}

/// Takes connections, each in a thread of its own, as many as are allowed.
fn accept(listener: &TcpListener, guard: &Guard, hub: &Arc<Hub>) {
    let (open, pages) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of file descriptors, say: others close theirs meanwhile.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        let Some(place) = Place::take(&open, MOST_CONNECTIONS) else {
            refuse(stream, Refusal::Busy);
            continue;
        };
        let (guard, hub, pages) = (guard.clone(), Arc::clone(hub), Arc::clone(&pages));
        let work = move || {
            let _place = place;
            answer(stream, &guard, &hub, &pages);
        };
        // Without a thread the connection is closed: it can be tried again.
        let _ = std::thread::Builder::new().name("page".to_owned()).stack_size(STACK).spawn(work);
    }
}

/// A place among those there are, given back on drop.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(counter: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let place = Self(Arc::clone(counter));
        (counter.fetch_add(1, Ordering::AcqRel) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One connection.
fn answer(mut stream: TcpStream, guard: &Guard, hub: &Hub, pages: &Arc<AtomicUsize>) {
    let _ = stream.set_write_timeout(Some(ANSWER_PATIENCE));
    let _ = stream.set_nodelay(true);
    let patience = |stream: &TcpStream, left| stream.set_read_timeout(Some(left));
    let request = Request::read(&mut stream, Instant::now() + REQUEST_PATIENCE, patience);
    let request = match request.and_then(|request| guard.check(&request).map(|()| request)) {
        Ok(request) => request,
        Err(Refusal::Silence) => return,
        Err(refusal) => return refuse(stream, refusal),
    };
    if guard.token.is_some() && request.path == "/" && request.asked("token").is_some() {
        return welcome(stream, guard);
    }
    // Whoever is gone is noticed when writing fails; there is nobody to tell.
    let _ = match request.path.as_str() {
        "/events" if !request.head_only => match Place::take(pages, MOST_PAGES) {
            Some(_place) => news(&mut stream, hub),
            None => return refuse(stream, Refusal::Busy),
        },
        "/events" => send(&mut stream, "200 OK", EVENTS, "", b"", true),
        "/state.json" => {
            let (_, text) = hub.whole(Detail::Full);
            send(&mut stream, "200 OK", "application/json", "", text.as_bytes(), request.head_only)
        }
        // Ids have no sign that an address would have to hide.
        "/run.json" => match request.asked("id").and_then(|id| hub.run(id)) {
            Some(text) => {
                send(&mut stream, "200 OK", "application/json", "", text.as_bytes(), request.head_only)
            }
            None => return refuse(stream, Refusal::NotFound),
        },
        path => match PARTS.iter().find(|(known, ..)| *known == path) {
            Some((_, kind, text)) => {
                send(&mut stream, "200 OK", kind, "", text.as_bytes(), request.head_only)
            }
            None => return refuse(stream, Refusal::NotFound),
        },
    };
}

const EVENTS: &str = "text/event-stream";

/// The token goes from the address into a cookie, so that no link and no history of the page shows it.
fn welcome(mut stream: TcpStream, guard: &Guard) {
    let token = guard.token.as_deref().unwrap_or_default();
    let more = format!("Location: /\r\nSet-Cookie: {COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict\r\n");
    let _ = send(&mut stream, "303 See Other", "text/plain; charset=utf-8", &more, b"", false);
}

fn refuse(mut stream: TcpStream, refusal: Refusal) {
    let (status, words) = refusal.answer();
    let more = if refusal == Refusal::Method { "Allow: GET, HEAD\r\n" } else { "" };
    let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
    let words = format!("{words}\n");
    let _ = send(&mut stream, status, "text/plain; charset=utf-8", more, words.as_bytes(), false);
    // What was not read of a large request would make the system drop the answer.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
    let _ = io::copy(&mut io::Read::take(&mut stream, 1 << 20), &mut io::sink());
}

/// The head of an answer.
fn head(status: &str, kind: &str, more: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Security-Policy: {POLICY}\r\n\
         X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n{more}"
    )
}

fn send(
    stream: &mut impl Write,
    status: &str,
    kind: &str,
    more: &str,
    body: &[u8],
    head_only: bool,
) -> io::Result<()> {
    let head = format!("{}Content-Length: {}\r\n\r\n", head(status, kind, more), body.len());
    stream.write_all(head.as_bytes())?;
    if !head_only {
        stream.write_all(body)?;
    }
    stream.flush()
}

/// The whole, coarse and then fine, and what is new from then on, until the page is gone.
fn news(stream: &mut TcpStream, hub: &Hub) -> io::Result<()> {
    stream.write_all(format!("{}\r\n", head("200 OK", EVENTS, "")).as_bytes())?;
    // A page that lost its server looks again after a second.
    stream.write_all(b"retry: 1000\n\n")?;
    let (_, first) = hub.whole(Detail::First);
    event(stream, "whole", &first)?;
    let (mut after, full) = hub.whole(Detail::Full);
    event(stream, "whole", &full)?;
    drop((first, full));
    loop {
        match hub.next(after, SIGN_EVERY) {
            Next::News(number, text) => {
                event(stream, "news", &text)?;
                after = number;
            }
            Next::Behind => {
                let (number, text) = hub.whole(Detail::Full);
                event(stream, "whole", &text)?;
                after = number;
            }
            Next::Nothing => event(stream, "sign", "{}")?,
            Next::Closed => return event(stream, "end", "{}"),
        }
    }
}

/// One event; JSON has no line break outside of what it escapes.
fn event(stream: &mut impl Write, name: &str, data: &str) -> io::Result<()> {
    stream.write_all(format!("event: {name}\ndata: ").as_bytes())?;
    stream.write_all(data.as_bytes())?;
    stream.write_all(b"\n\n")?;
    stream.flush()
}

/// Fits what has new points, behind every other program's work, and rests longer than it worked.
fn fit(hub: &Hub, store: &std::path::Path) {
    crate::step_back(19);
    let mut known: Vec<(Asked, u64)> = Vec::new();
    loop {
        std::thread::sleep(LOOK_EVERY);
        if !hub.is_read() {
            continue;
        }
        for asked in hub.asked() {
            let points = hub.points(&asked.study);
            let place = known.iter().position(|(old, _)| old.study == asked.study);
            if place.is_some_and(|i| known[i] == (asked.clone(), points)) || asked.runs.is_empty() {
                continue;
            }
            let began = Instant::now();
            if let Some(law) = law::fit(store, &asked) {
                hub.set_law(&asked.study, law);
            }
            match place {
                Some(i) => known[i] = (asked, points),
                None => known.push((asked, points)),
            }
            std::thread::sleep(FIT_REST * began.elapsed());
        }
    }
}
