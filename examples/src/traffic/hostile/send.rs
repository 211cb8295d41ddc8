//! Sending a hostile request, and hanging up on it.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{AllowedReply, ClientConduct, HostileRequest};

/// How long an answer is waited for. Some write to the end of the model's context, beside all others.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Sends hostile requests to a server, each on a connection of its own.
pub struct Sender {
    agent: ureq::Agent,
    url: String,
}

impl Sender {
    /// To the server at `url`.
    pub fn new(url: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_idle_connections(0)
            .build()
            .into();
        Self {
            agent,
            url: url.to_string(),
        }
    }

    /// The status that comes back, if the client waits for it.
    ///
    /// # Errors
    ///
    /// No connection, one that is dropped, no answer in time, or one that is not whole: a document that is no JSON, a stream
    /// without its end.
    pub fn send(&self, request: &HostileRequest) -> Result<Option<u16>> {
        match request.conduct {
            ClientConduct::Waits => self.ask(request).map(Some),
            ClientConduct::HangsUp => self.hang_up(request, request.body.len()),
            ClientConduct::StopsHalfway => self.hang_up(request, request.body.len() / 2),
        }
    }

    fn ask(&self, request: &HostileRequest) -> Result<u16> {
        let url = format!("{}{}", self.url, request.route);
        let asked = self.agent.post(url).header("content-type", "application/json");
        let mut reply = asked.send(&request.body[..])?;
        let status = reply.status().as_u16();
        let kind = reply.headers().get("content-type");
        let streamed = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let body = reply.body_mut().with_config().lossy_utf8(true).read_to_string();
        let body = body.with_context(|| format!("status {status}, and then"))?;
        if status == 200 {
            is_whole(&body, streamed)?;
        }
        Ok(status)
    }

    /// Sends so many bytes of the body, and then no more. How the server takes it doesn't matter to who has gone.
    fn hang_up(&self, request: &HostileRequest, bytes: usize) -> Result<Option<u16>> {
        let address = self.url.strip_prefix("http://").context("no address")?;
        let mut connection = TcpStream::connect(address)?;
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            request.route,
            request.body.len()
        );
        let _ = connection.write_all(head.as_bytes());
        let _ = connection.write_all(&request.body[..bytes]);
        Ok(None)
    }
}

fn is_whole(body: &str, streamed: bool) -> Result<()> {
    if streamed {
        let mut events = body.lines().rev().filter(|line| !line.is_empty());
        match events.next() {
            Some(last) if last.trim_start_matches("data:").trim() == "[DONE]" => return Ok(()),
            last => bail!("a stream ended with {last:?}"),
        }
    }
    let document: Result<Value, _> = serde_json::from_str(body);
    document.map(drop).context("an answer that is no JSON")
}

impl HostileRequest {
    /// Whether that status may be the answer to it.
    ///
    /// # Errors
    ///
    /// Another one was due.
    pub fn accepts(&self, status: u16) -> Result<()> {
        if self.allowed == AllowedReply::Refusal {
            ensure!((400..500).contains(&status), "status {status}, where 4xx was due");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_must_be_whole_and_a_refusal_one() {
        assert!(is_whole("{}", false).is_ok());
        assert!(is_whole("{", false).is_err());
        assert!(is_whole("data: {}\n\ndata: [DONE]\n\n", true).is_ok());
        assert!(is_whole("data: {}\n\n", true).is_err());
        assert!(is_whole("", true).is_err());
        let request = |allowed| HostileRequest {
            name: "n",
            route: "/",
            body: Vec::new(),
            allowed,
            conduct: ClientConduct::Waits,
        };
        assert!(request(AllowedReply::Refusal).accepts(422).is_ok());
        assert!(request(AllowedReply::Refusal).accepts(200).is_err());
        assert!(request(AllowedReply::Refusal).accepts(500).is_err());
        assert!(request(AllowedReply::Answer).accepts(500).is_ok());
    }
}
