//! Sending a hostile request, and hanging up.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{AllowedReply, ClientConduct, HostileRequest};

/// How long to wait for an answer. Some answers fill the model's context, beside all other requests.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Sends hostile requests to a server, each on a new connection.
pub struct Sender {
    agent: ureq::Agent,
    url: String,
}

impl Sender {
    /// Sends to the server at `url`.
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

    /// Sends a request; returns the status if the client waits for it.
    ///
    /// # Errors
    ///
    /// If there is no connection, it is dropped, no answer comes in time, or the answer is incomplete: a document that
    /// is not JSON, or a stream without its end.
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
        let body = body.with_context(|| format!("after status {status}"))?;
        if status == 200 {
            is_whole(&body, streamed)?;
        }
        Ok(status)
    }

    /// Sends this many bytes of the body and hangs up. The server's reaction is ignored, since the client is gone.
    fn hang_up(&self, request: &HostileRequest, bytes: usize) -> Result<Option<u16>> {
        let address = self.url.strip_prefix("http://").context("url: expected http://")?;
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
            last => bail!("the stream ended with {last:?}, expected [DONE]"),
        }
    }
    let document: Result<Value, _> = serde_json::from_str(body);
    document.map(drop).context("an answer that is not JSON")
}

impl HostileRequest {
    /// Checks that the status is an allowed reply.
    ///
    /// # Errors
    ///
    /// If another one was expected.
    pub fn accepts(&self, status: u16) -> Result<()> {
        if self.allowed == AllowedReply::Refusal {
            ensure!((400..500).contains(&status), "status: found {status}, expected 4xx");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_must_be_whole_and_a_refusal_must_be_4xx() {
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
