//! The other end of the socket: asks, and waits no longer than it says.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::wire::{Body, Query, Text, VERSION};

/// How long an answer may take: longer than the daemon takes at most.
const PATIENCE: Duration = Duration::from_secs(6);
/// Longer than any answer.
const LONGEST: u64 = 4 << 20;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no memmon answers at {}", .0.display())]
    NoDaemon(PathBuf),
    /// The socket is there, for others.
    #[error(
        "{} is not for you: ask root to set `group` under [status] to a group of yours", .0.display()
    )]
    NotForYou(PathBuf),
    /// The daemon said so.
    #[error("memmon says: {0}")]
    Refused(Text),
    /// What came is no answer.
    #[error("what answers is no memmon of this version: {0}")]
    Garbage(String),
    /// The connection failed.
    #[error("the connection to memmon broke: {0}")]
    Broken(#[from] io::Error),
}

impl Client {
    /// Connects to the daemon that listens at `socket`.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`] and [`ClientError::NotForYou`] are everyday life.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(socket.to_owned())
            }
            io::ErrorKind::PermissionDenied => ClientError::NotForYou(socket.to_owned()),
            _ => ClientError::Broken(error),
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and gives the answer as the line that came.
    ///
    /// # Errors
    /// As for [`Client::get`]; what the line says is not looked at.
    pub fn line(&mut self, get: Query) -> Result<String, ClientError> {
        // Who was turned away has an answer all the same, so that one is looked for whatever becomes of the question.
        let asked = writeln!(self.stream.get_ref(), "{}", get.request());
        let mut line = String::new();
        let read = (&mut self.stream).take(LONGEST).read_line(&mut line);
        if line.ends_with('\n') {
            return Ok(line);
        }
        asked?;
        read?;
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }

    /// Asks.
    ///
    /// # Errors
    /// Any: after one this connection is of no further use.
    pub fn get(&mut self, get: Query) -> Result<Body, ClientError> {
        understood(&self.line(get)?)
    }
}

/// What an answer says; what the daemon refuses is an error.
///
/// # Errors
/// [`ClientError::Refused`], or [`ClientError::Garbage`] for what is no answer.
pub fn understood(line: &str) -> Result<Body, ClientError> {
    #[derive(Deserialize)]
    struct Answer {
        v: u64,
        #[serde(flatten)]
        body: Body,
    }
    match serde_json::from_str(line) {
        Ok(Answer { v: VERSION, body: Body::Error(refusal) }) => Err(ClientError::Refused(refusal.message)),
        Ok(Answer { v: VERSION, body }) => Ok(body),
        Ok(Answer { v, .. }) => Err(ClientError::Garbage(format!("it speaks version {v}"))),
        Err(error) => Err(ClientError::Garbage(error.to_string())),
    }
}
