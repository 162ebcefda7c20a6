//! The live page and the terminal's picture, as whole commands.

use crate::common::{isoflop, run};
use crate::tidy::root;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A store of the first format, copied so that it may be appended to.
fn store() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    for run in std::fs::read_dir(root().join("fixtures/store-1/runs")).unwrap() {
        let from = run.unwrap().path();
        let to = runs.join(from.file_name().unwrap());
        std::fs::create_dir_all(&to).unwrap();
        for name in ["spec.json", "status.json", "metrics.jsonl", "points.jsonl"] {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
    (dir, runs)
}

/// A server that is ended when the test is.
struct Watching {
    child: Child,
    port: u16,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watching {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut command = isoflop(dir);
        command.arg("watch").args(args).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().split('/').next().unwrap().parse();
        let port = port.unwrap_or_else(|_| panic!("no address: {line}"));
        Self { child, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// The answer to these bytes, whole.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str, headers: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n{headers}\r\n", self.port).as_bytes())
    }

    fn signal(&self, name: &str) {
        Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
    }
}

/// Lines of an answer that goes on, until one holds `words`.
fn until(lines: &mut impl Iterator<Item = std::io::Result<String>>, words: &str) -> String {
    let began = Instant::now();
    for line in lines {
        let line = line.unwrap_or_else(|e| panic!("waiting for {words}: {e}"));
        if line.contains(words) {
            return line;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{words} did not come");
    }
    panic!("it ended before {words} came");
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[test]
fn the_page_is_served_whole_with_a_strict_policy_and_nothing_else_is() {
    let (dir, _runs) = store();
    let watching = Watching::start(dir.path(), &["--port", "0"]);
    let page = watching.get("/", "");
    assert_eq!(status(&page), "200", "{page}");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("default-src 'none'; script-src 'self'") && head.contains("nosniff"), "{head}");
    for part in body.split('"').filter(|part| part.starts_with('/') && part.contains('.')) {
        let answer = watching.get(part, "");
        assert_eq!(status(&answer), "200", "{part}");
        assert!(!answer.contains("https://") && !answer.contains("//cdn"), "{part} leads elsewhere");
        assert!(answer.len() > 200, "{part} is empty");
    }
    let head =
        watching.raw(format!("HEAD / HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", watching.port).as_bytes());
    assert_eq!((status(&head), head.ends_with("\r\n\r\n")), ("200", true), "{head}");
    for path in ["/nothing", "/../Cargo.toml", "/%2e%2e/", "/page.css/", "//", "/runs/spec.json"] {
        assert_eq!(status(&watching.get(path, "")), "404", "{path}");
    }
    let state = watching.get("/state.json", "");
    let state: serde_json::Value = serde_json::from_str(state.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(state["schema"], "isoflop.state/1");
    // The page answers from the first moment; the store is read behind other programs' work.
    let asked = Instant::now();
    let one = loop {
        let answer = watching.get("/run.json?id=old-L1-d8-h1-s1", "");
        if status(&answer) == "200" {
            break answer;
        }
        assert!(asked.elapsed() < Duration::from_secs(60), "{answer}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let one: serde_json::Value = serde_json::from_str(one.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(one["segments"][0]["name"], "trunk");
    for id in ["", "none", "../runs", "old-L1-d8-h1-s1%00"] {
        assert_eq!(status(&watching.get(&format!("/run.json?id={id}"), "")), "404", "{id}");
    }
}

#[test]
fn others_are_refused_and_floods_are_survived() {
    let (dir, _runs) = store();
    let watching = Watching::start(dir.path(), &["--port", "0"]);
    let raw = |text: &str| watching.raw(text.as_bytes());
    assert_eq!(status(&raw("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")), "403");
    assert_eq!(status(&raw("GET / HTTP/1.1\r\n\r\n")), "403");
    assert_eq!(status(&watching.get("/events", "Origin: http://evil.example\r\n")), "403");
    assert_eq!(status(&watching.get("/events", "Sec-Fetch-Site: cross-site\r\n")), "403");
    assert_eq!(status(&raw("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")), "405");
    assert_eq!(status(&raw("hello\r\n\r\n")), "400");
    assert_eq!(status(&raw(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)))), "431");
    // Slow ones hold a connection each, and nobody up; a hundred pages are open besides.
    let slow: Vec<TcpStream> = (0..60)
        .map(|_| {
            let mut stream = watching.connect();
            stream.write_all(b"GET / HT").unwrap();
            stream
        })
        .collect();
    let pages: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = watching.connect();
            stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    for page in pages {
        until(&mut BufReader::new(page).lines(), "event: whole");
    }
    assert_eq!(status(&watching.get("/", "")), "200");
    for mut stream in slow {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(status(&answer), "408");
    }
    assert_eq!(status(&watching.get("/", "")), "200");
}

#[test]
fn what_is_appended_arrives_and_the_store_is_left_as_it_is() {
    let (dir, runs) = store();
    let watching = Watching::start(dir.path(), &["--port", "0"]);
    let mut stream = watching.connect();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    let first = until(&mut lines, "old-L1-d8-h1-s1");
    assert!(first.contains("\"status\":\"done\""), "{first}");
    // A new run, with a row that comes in two pieces.
    let new = runs.join("old-L1-d8-h1-s2");
    std::fs::create_dir_all(&new).unwrap();
    let log = std::fs::read_to_string(runs.join("old-L1-d8-h1-s1/metrics.jsonl")).unwrap();
    let spec = std::fs::read_to_string(runs.join("old-L1-d8-h1-s1/spec.json")).unwrap();
    let (one, rest) = log.split_at(log.find('\n').unwrap() + 1);
    let two = &rest[..=rest.find('\n').unwrap()];
    std::fs::write(new.join("metrics.jsonl"), one).unwrap();
    std::fs::write(new.join("spec.json"), spec).unwrap();
    until(&mut lines, "\"rows\":1,");
    let mut file = std::fs::OpenOptions::new().append(true).open(new.join("metrics.jsonl")).unwrap();
    file.write_all(&two.as_bytes()[..two.len() / 2]).unwrap();
    std::thread::sleep(Duration::from_millis(900));
    file.write_all(&two.as_bytes()[two.len() / 2..]).unwrap();
    until(&mut lines, "\"rows\":2,");
    let mut left: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&new).unwrap().chain(std::fs::read_dir(&runs).unwrap()) {
        left.push(entry.unwrap().file_name().to_string_lossy().into_owned());
    }
    left.sort();
    assert_eq!(
        left,
        ["metrics.jsonl", "old-L1-d16-h2-s1", "old-L1-d8-h1-s1", "old-L1-d8-h1-s2", "spec.json"]
    );
}

#[test]
fn it_ends_by_a_signal_and_says_what_keeps_it_from_beginning() {
    let (dir, _runs) = store();
    let mut watching = Watching::start(dir.path(), &["--port", "0"]);
    let port = watching.port.to_string();
    let (code, _, said) = run(dir.path(), &["watch", "--port", &port]);
    assert!(
        code == 2 && said.contains("cannot listen at 127.0.0.1 port") && said.contains("--port 0"),
        "{said}"
    );
    let (code, _, said) = run(dir.path(), &["watch", "--address", "0.0.0.0"]);
    assert!(code == 2 && said.contains("other machines") && said.contains("--token"), "{said}");
    std::fs::write(dir.path().join("token"), "short").unwrap();
    let (code, _, said) = run(dir.path(), &["watch", "--token", "token"]);
    assert!(code == 2 && said.contains("16 letters"), "{said}");
    let (code, _, said) = run(dir.path(), &["watch", "token"]);
    assert!(code == 2 && said.contains("is a file"), "{said}");
    watching.signal("-TERM");
    assert_eq!(watching.child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_token_is_wanted_and_kept_out_of_the_address() {
    let (dir, _runs) = store();
    let token = "0123456789abcdef0123";
    std::fs::write(dir.path().join("token"), format!("{token}\n")).unwrap();
    let watching = Watching::start(dir.path(), &["--port", "0", "--token", "token"]);
    assert_eq!(status(&watching.get("/", "")), "401");
    assert_eq!(status(&watching.get("/events?token=0123456789abcdef0124", "")), "401");
    let answer = watching.get(&format!("/?token={token}"), "");
    assert!(answer.contains("303 See Other") && answer.contains("Location: /\r\n"), "{answer}");
    assert!(answer.contains("HttpOnly; SameSite=Strict"), "{answer}");
    assert_eq!(status(&watching.get("/", &format!("Cookie: isoflop={token}\r\n"))), "200");
}

#[test]
fn one_picture_is_plain_text_of_the_width_asked_for() {
    let (dir, _runs) = store();
    let (code, picture, said) = run(dir.path(), &["top", "--once"]);
    assert_eq!(code, 0, "{said}");
    assert!(picture.contains("1 running") && picture.contains("L1-d16-h2-s1"), "{picture}");
    assert!(
        picture.lines().all(|line| line.chars().count() <= 80) && !picture.contains('\u{1b}'),
        "{picture}"
    );
    let (_, narrow, _) = run(dir.path(), &["top", "--once", "--columns", "50", "--lines", "12", "--ascii"]);
    assert!(narrow.is_ascii() && narrow.lines().count() <= 12, "{narrow}");
    assert!(narrow.lines().all(|line| line.len() <= 50), "{narrow}");
    let (code, empty, _) = run(dir.path(), &["top", "nowhere"]);
    assert!(code == 0 && empty.contains("waiting: nowhere is not there yet"), "{empty}");
    let (_, document, _) = run(dir.path(), &["top", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["runs"].as_array().unwrap().len(), 2);
}
