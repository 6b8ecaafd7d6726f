//! A client's lines as they arrive, in bounded memory, and the refusal of what is no request.

use tokio::{io::AsyncReadExt as _, net::UnixStream};

use super::wire::{self, Body, Refusal};

/// Maximum length of a request, with its line end: an order has a reason of up to 200 bytes, which may be escaped.
const LONGEST: usize = 1024;

/// Sends the reason, if that does not block. An empty socket has room for it.
pub(super) fn turn_away(stream: &UnixStream, code: &str, message: &str) {
    let _ = stream.try_write(refusal(code, message).as_bytes());
}

/// A refusal as the line to send.
pub(super) fn refusal(code: &str, message: &str) -> String {
    wire::answer(&Body::Error(Refusal::new(code, message)))
}

/// Received bytes that are not answered yet.
#[derive(Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
}

/// The next line of a client.
pub(super) enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

impl Lines {
    /// Waits for the next line.
    pub(super) async fn next(&mut self, stream: &mut UnixStream) -> Line {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Line::Whole(std::mem::replace(&mut self.buffer, rest));
            }
            let mut chunk = [0; LONGEST];
            let Some(room @ 1..) = LONGEST.checked_sub(self.buffer.len()) else { return Line::TooLong };
            let Some(free) = chunk.get_mut(..room) else { return Line::TooLong };
            match stream.read(free).await {
                Ok(read @ 1..) => self.buffer.extend(free.get(..read).unwrap_or_default()),
                Ok(0) | Err(_) => return Line::End,
            }
        }
    }
}
