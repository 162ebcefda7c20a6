//! Telling the outside of an alarm: a command of the user's, and a webhook on this machine.
//!
//! The webhook is the one place of the laboratory that opens a connection, and it goes to this machine's own addresses
//! only: an address is parsed, never looked up, so no name can lead elsewhere.

use crate::error::UserError;
use isoflop_base::instruments::Alarm;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a command may run, and a webhook may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
const WEBHOOK_PATIENCE: Duration = Duration::from_secs(2);

/// An address on this machine: `http://127.0.0.1:8080/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    address: SocketAddr,
    path: String,
}

impl Webhook {
    /// Reads an address.
    ///
    /// # Errors
    /// A [`UserError`]: it is none, or not of this machine.
    pub fn parse(text: &str) -> Result<Self, UserError> {
        let wrong = |what: &str| {
            UserError::new(format!("`{text}`: {what}")).hint(
                "write an address of this machine, such as http://127.0.0.1:8080/alarm or http://[::1]:8080/",
            )
        };
        let rest = text.strip_prefix("http://").ok_or_else(|| wrong("a webhook begins with http://"))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.starts_with("localhost") {
            return Err(wrong("names are not looked up"));
        }
        let address: SocketAddr = host.parse().map_err(|_| wrong("no address with a port"))?;
        if !address.ip().is_loopback() {
            return Err(wrong("nothing is sent to other machines"));
        }
        if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("its path has a space"));
        }
        Ok(Self { address, path: if path.is_empty() { "/".to_owned() } else { path.to_owned() } })
    }

    /// Sends the alarm as JSON.
    ///
    /// # Errors
    /// Nobody listens, or does not answer with success; in words.
    fn send(&self, alarm: &Alarm) -> Result<(), String> {
        assert!(self.address.ip().is_loopback(), "only addresses of this machine are parsed");
        let body = serde_json::to_string(alarm).expect("an alarm is plain data");
        let say = |e: std::io::Error| format!("webhook {}: {e}", self.address);
        let mut stream = TcpStream::connect_timeout(&self.address, WEBHOOK_PATIENCE).map_err(say)?;
        stream.set_read_timeout(Some(WEBHOOK_PATIENCE)).map_err(say)?;
        stream.set_write_timeout(Some(WEBHOOK_PATIENCE)).map_err(say)?;
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.path,
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(say)?;
        let mut answer = [0u8; 12];
        stream.read_exact(&mut answer).map_err(say)?;
        match &answer[9..] {
            [b'2', ..] => Ok(()),
            code => Err(format!("webhook {}: it answered {}", self.address, String::from_utf8_lossy(code))),
        }
    }
}

/// Where alarms go beside the store and the terminal.
#[derive(Debug, Clone, Default)]
pub struct Notify {
    /// A command for the shell.
    pub command: Option<String>,
    /// An address on this machine.
    pub webhook: Option<Webhook>,
}

impl Notify {
    /// Tells both, and says what went wrong. Takes as long as they do: not for a thread that trains.
    pub fn tell(&self, alarm: &Alarm) -> Vec<String> {
        let command = self.command.as_ref().and_then(|command| run(command, alarm).err());
        let webhook = self.webhook.as_ref().and_then(|webhook| webhook.send(alarm).err());
        command.into_iter().chain(webhook).collect()
    }

    /// Whether there is anybody to tell.
    pub fn is_empty(&self) -> bool {
        self.command.is_none() && self.webhook.is_none()
    }
}

/// Runs the user's command with the alarm in its environment; what it prints goes nowhere.
fn run(command: &str, alarm: &Alarm) -> Result<(), String> {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let say = |e: std::io::Error| format!("alarm command `{command}`: {e}");
    let mut child = Command::new(shell)
        .args([flag, command])
        .env("ISOFLOP_ALARM", alarm.alarm.word())
        .env("ISOFLOP_RUN", &alarm.run)
        .env("ISOFLOP_STEP", alarm.step.map(|step| step.to_string()).unwrap_or_default())
        .env("ISOFLOP_WORDS", &alarm.words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(say)?;
    let start = Instant::now();
    loop {
        match child.try_wait().map_err(say)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("alarm command `{command}`: {status}")),
            None if start.elapsed() > COMMAND_PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "alarm command `{command}`: ended after {} s",
                    COMMAND_PATIENCE.as_secs()
                ));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isoflop_base::instruments::AlarmKind;

    fn alarm() -> Alarm {
        Alarm {
            run: "mine-L2-d32-h2-s1".into(),
            alarm: AlarmKind::LossSpike,
            unix_s: 1,
            step: Some(7),
            words: "the loss is 9 \"now\"".into(),
        }
    }

    #[test]
    fn only_addresses_of_this_machine_are_webhooks() {
        for (text, words) in [
            ("https://127.0.0.1:1/", "begins with http://"),
            ("http://localhost:80/", "not looked up"),
            ("http://example.com:80/", "no address"),
            ("http://127.0.0.1.example.com:80/", "no address"),
            ("http://10.0.0.1:80/", "other machines"),
            ("http://0.0.0.0:80/", "other machines"),
            ("http://[::ffff:8.8.8.8]:80/", "other machines"),
            ("http://127.0.0.1/", "no address"),
            ("http://127.0.0.1:80/a b", "a space"),
            ("http://127.0.0.1:80/a\r\nHost: x", "a space"),
        ] {
            let message = Webhook::parse(text).unwrap_err().to_string();
            assert!(message.contains(words) && message.contains("hint: "), "{message}");
        }
        assert_eq!(Webhook::parse("http://[::1]:9").unwrap().path, "/");
        assert_eq!(Webhook::parse("http://127.0.0.1:9/x?y").unwrap().path, "/x?y");
    }

    #[test]
    fn a_webhook_gets_the_alarm_and_an_answer_that_is_no_success_is_said() {
        let answer = |line: &'static str| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut text, mut buffer) = (String::new(), [0u8; 4096]);
                while !text.contains("now") {
                    let n = stream.read(&mut buffer).unwrap();
                    text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
                }
                stream.write_all(line.as_bytes()).unwrap();
                text
            });
            let webhook = Some(Webhook::parse(&format!("http://{address}/alarm")).unwrap());
            let failed = Notify { webhook, command: None }.tell(&alarm());
            (failed, server.join().unwrap())
        };
        let (failed, request) = answer("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(failed, Vec::<String>::new());
        assert!(request.starts_with("POST /alarm HTTP/1.1\r\n"), "{request}");
        let body = request.split("\r\n\r\n").nth(1).unwrap();
        assert_eq!(serde_json::from_str::<Alarm>(body).unwrap(), alarm());
        assert!(answer("HTTP/1.1 500 Oh\r\n\r\n").0[0].contains("answered 500"));
        let nobody = Some(Webhook::parse("http://127.0.0.1:1/").unwrap());
        assert!(Notify { webhook: nobody, command: None }.tell(&alarm())[0].contains("webhook 127.0.0.1:1"));
    }

    #[cfg(unix)]
    #[test]
    fn a_command_gets_the_alarm_in_its_environment_and_its_failure_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("said");
        let command = format!(
            "printf '%s|%s|%s|%s' \"$ISOFLOP_ALARM\" \"$ISOFLOP_RUN\" \"$ISOFLOP_STEP\" \"$ISOFLOP_WORDS\" > '{}'",
            file.display()
        );
        let notify = Notify { command: Some(command), webhook: None };
        assert_eq!(notify.tell(&alarm()), Vec::<String>::new());
        assert_eq!(
            std::fs::read_to_string(file).unwrap(),
            "loss-spike|mine-L2-d32-h2-s1|7|the loss is 9 \"now\""
        );
        let failing = Notify { command: Some("exit 3".into()), webhook: None };
        assert!(failing.tell(&alarm())[0].contains("exit 3"));
    }
}
