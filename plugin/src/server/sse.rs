//! Splits a stream of server-sent events and passes each on without delay.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use http_body::Frame;

use super::extension::AnswerExtension;

/// A byte stream of server-sent events, split after the blank line that ends each.
///
/// Lines end in `\n` or `\r\n`; axum, which writes the events here, uses the former.
#[derive(Default)]
struct Splitter {
    buffer: Vec<u8>,
    /// How many bytes of `buffer` were searched and do not end an event.
    scanned: usize,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete event, its blank line included.
    fn next(&mut self) -> Option<Bytes> {
        let ends = |at: &usize| {
            let line = &self.buffer[..*at];
            self.buffer[*at] == b'\n' && (line.ends_with(b"\n") || line.ends_with(b"\n\r"))
        };
        let Some(end) = (self.scanned..self.buffer.len()).find(ends) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let rest = self.buffer.split_off(end + 1);
        self.scanned = 0;
        Some(std::mem::replace(&mut self.buffer, rest).into())
    }

    /// The bytes that remain when the stream has ended.
    fn rest(&mut self) -> Option<Bytes> {
        self.scanned = 0;
        let rest = std::mem::take(&mut self.buffer);
        (!rest.is_empty()).then(|| rest.into())
    }
}

/// The event with its extension, or unchanged if there is none.
fn extended(event: Bytes, extension: &mut AnswerExtension) -> Bytes {
    if !extension.may_extend(&event) {
        return event;
    }
    // The server writes JSON on one line. Only such an event can be replaced.
    let mut lines: Vec<&[u8]> = event.split_inclusive(|byte| *byte == b'\n').collect();
    let mut of_data = lines.iter().enumerate().filter(|(_, line)| line.starts_with(b"data:"));
    let (Some((index, line)), None) = (of_data.next(), of_data.next()) else {
        return event;
    };
    let Some(json) = extension.extended(&line[b"data:".len()..]) else {
        return event;
    };
    let line = format!("data: {json}\n");
    lines[index] = line.as_bytes();
    lines.concat().into()
}

/// The body of a streamed answer whose events are extended.
///
/// Events are passed on as soon as they are complete; those that are not extended stay byte for byte. `_guard` lives
/// until the body is dropped: when the answer has ended or the client has disconnected.
pub(super) struct EventBody<G> {
    inner: Body,
    splitter: Splitter,
    ended: bool,
    extension: AnswerExtension,
    _guard: G,
}

impl<G: Unpin> EventBody<G> {
    pub(super) fn new(inner: Body, extension: AnswerExtension, guard: G) -> Self {
        Self {
            inner,
            splitter: Splitter::default(),
            ended: false,
            extension,
            _guard: guard,
        }
    }

    /// The next event, or a frame that is not data.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            if let Some(event) = self.splitter.next() {
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(http_body::Body::poll_frame(Pin::new(&mut self.inner), cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.splitter.push(&bytes),
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.ended = true;
                    if let Some(rest) = self.splitter.rest() {
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
            }
        }
    }
}

impl<G: Unpin> http_body::Body for EventBody<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = match ready!(this.poll_inner(cx)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        let extension = &mut this.extension;
        Poll::Ready(Some(Ok(frame.map_data(|event| extended(event, extension)))))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use axum::body::to_bytes;
    use futures::stream;

    use super::*;

    const STREAM: &str = ": hello\n\ndata: {\"usage\":null}\n\nevent: x\nid: 3\ndata: {\"usage\":{\"n\":1}}\n\n\
                          data: two\ndata: {\"usage\":{}}\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n\
                          data: \u{e4}\"usage\"\n\ndata: [DONE]\n\ndata: cut {\"usage\"";

    fn usage(steering: &str) -> AnswerExtension {
        AnswerExtension {
            usage: Some(steering.to_string()),
            readout: None,
        }
    }

    fn chunks(parts: Vec<&[u8]>) -> Body {
        let parts: Vec<Result<Bytes, axum::Error>> =
            parts.into_iter().map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        Body::from_stream(stream::iter(parts))
    }

    async fn text(body: EventBody<()>) -> String {
        String::from_utf8(to_bytes(Body::new(body), usize::MAX).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn events_split_anywhere_are_extended_and_the_rest_is_byte_for_byte() {
        let expected = STREAM.replace("{\"n\":1}", "{\"n\":1,\"steering\":S}");
        for at in 0..=STREAM.len() {
            let (a, b) = STREAM.as_bytes().split_at(at);
            let body = EventBody::new(chunks(vec![a, b]), usage("S"), ());
            assert_eq!(text(body).await, expected, "split at {at}");
        }
        let single = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(text(EventBody::new(chunks(single), usage("S"), ())).await, expected);
        let plain = chunks(STREAM.as_bytes().chunks(3).collect());
        assert_eq!(
            text(EventBody::new(plain, AnswerExtension::default(), ())).await,
            STREAM
        );
    }

    #[tokio::test]
    async fn lines_may_end_in_carriage_returns() {
        let stream = b"data: {\"usage\":{\"n\":1}}\r\n\r\ndata: a\r\n\r\n";
        let body = EventBody::new(chunks(stream.chunks(1).collect()), usage("S"), ());
        assert_eq!(
            text(body).await,
            "data: {\"usage\":{\"n\":1,\"steering\":S}}\n\r\ndata: a\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn an_event_goes_on_before_the_next_one_is_there() {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<Bytes, axum::Error>>();
        let source = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        let mut body = EventBody::new(Body::from_stream(Box::pin(source)), usage("S"), ());
        let mut next = async || poll_fn(|cx| Poll::Ready(http_body::Body::poll_frame(Pin::new(&mut body), cx))).await;
        assert!(next().await.is_pending());
        sender.send(Ok("data: 1\n\ndata: 2".into())).unwrap();
        match next().await {
            Poll::Ready(Some(Ok(frame))) => assert_eq!(frame.into_data().unwrap(), "data: 1\n\n"),
            other => panic!("{other:?}"),
        }
        assert!(next().await.is_pending());
        sender.send(Ok("\n\n".into())).unwrap();
        assert!(matches!(next().await, Poll::Ready(Some(Ok(_)))));
        drop(sender);
        assert!(matches!(next().await, Poll::Ready(None)));
    }

    #[tokio::test]
    async fn an_error_of_the_stream_goes_on() {
        let parts: Vec<Result<Bytes, std::io::Error>> =
            vec![Ok("data: 1\n\n".into()), Err(std::io::Error::other("gone"))];
        let body = EventBody::new(Body::from_stream(stream::iter(parts)), AnswerExtension::default(), ());
        assert!(to_bytes(Body::new(body), usize::MAX).await.is_err());
    }
}
