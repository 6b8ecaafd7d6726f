//! A conversation with a client, in bounded memory and time: its lines as they arrive, and the answers.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::wire::{self, Asked, Body, Refusal};

/// Maximum length of a request, with its line end: an order has a reason of up to 200 bytes, which may be escaped.
const LONGEST: usize = 1024;
/// Timeout for a client to read an answer, and for the daemon to make one.
const BUSY: Duration = Duration::from_secs(5);

/// Sends the reason, if that does not block. An empty socket has room for it.
pub(super) fn turn_away(stream: &UnixStream, code: &str, message: &str) {
    let _ = stream.try_write(refusal(code, message).as_bytes());
}

/// A refusal as the line to send.
pub(super) fn refusal(code: &str, message: &str) -> String {
    wire::answer(&Body::Error(Refusal::new(code, message)))
}

/// A client's connection, and the received bytes that are not answered yet.
pub(super) struct Conversation {
    pub(super) stream: UnixStream,
    buffer: Vec<u8>,
    /// Timeout for an idle client, and for a whole request.
    idle: Duration,
}

/// The next line of a client.
enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

impl Conversation {
    pub(super) const fn new(stream: UnixStream, idle: Duration) -> Self {
        Self { stream, buffer: Vec::new(), idle }
    }

    /// Waits for the next request. `None` ends the conversation: the client has left, is too slow, or was refused, as it sent
    /// something else.
    pub(super) async fn request(&mut self) -> Option<Asked> {
        let asked = match timeout(self.idle, self.line()).await {
            Ok(Line::Whole(line)) => wire::request(&line),
            Ok(Line::TooLong) => Err(Refusal::new("garbage", "no request is that long")),
            Ok(Line::End) | Err(_) => return None,
        };
        if let Err(refusal) = &asked {
            let _ = self.stream.try_write(wire::answer(&Body::Error(refusal.clone())).as_bytes());
        }
        asked.ok()
    }

    /// Sends the answer when it is made. `None` ends the conversation: there is none, or the client has left or is too slow.
    pub(super) async fn send(&mut self, answer: impl Future<Output = Option<impl AsRef<str>>>) -> Option<()> {
        let Ok(answer) = timeout(BUSY, answer).await else {
            turn_away(&self.stream, "busy", "memmon has no time to answer now: try again");
            return None;
        };
        timeout(BUSY, self.stream.write_all(answer?.as_ref().as_bytes())).await.ok()?.ok()
    }

    async fn line(&mut self) -> Line {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Line::Whole(std::mem::replace(&mut self.buffer, rest));
            }
            let mut chunk = [0; LONGEST];
            let Some(room @ 1..) = LONGEST.checked_sub(self.buffer.len()) else { return Line::TooLong };
            let Some(free) = chunk.get_mut(..room) else { return Line::TooLong };
            match self.stream.read(free).await {
                Ok(read @ 1..) => self.buffer.extend(free.get(..read).unwrap_or_default()),
                Ok(0) | Err(_) => return Line::End,
            }
        }
    }
}
