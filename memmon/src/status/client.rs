//! The client's end of the socket: sends queries, with a timeout for each answer.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::text::Text;
use super::{
    order::Order,
    wire::{self, Body, Query, VERSION},
};
use crate::model::Select;

/// Timeout for an answer: longer than the daemon's maximum.
const PATIENCE: Duration = Duration::from_secs(6);
/// Maximum length of an answer, longer than any real one.
const LONGEST: u64 = 4 << 20;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Reason why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens at the socket.
    #[error("no memmon answers at {}; start it (systemctl start memmon)", .0.display())]
    NoDaemon(PathBuf),
    /// The socket exists, but this user may not use it.
    #[error(
        "you may not use {}: ask root to set `group` under [status] to a group of yours", .0.display()
    )]
    NotPermitted(PathBuf),
    /// The daemon refused the query.
    #[error("memmon refuses the query: {0}")]
    Refused(Text),
    /// The received line is not an answer.
    #[error("the answer is not from a memmon of this version: {0}")]
    Garbage(String),
    /// The connection failed.
    #[error("the connection to memmon broke: {0}")]
    Broken(#[from] io::Error),
}

impl ClientError {
    /// The reason if the answer is one to another query.
    pub fn other_query() -> Self {
        Self::Garbage("it is about another question".to_owned())
    }

    /// The reason in a few words, for a place that is short.
    pub const fn in_brief(&self) -> &'static str {
        match self {
            Self::NoDaemon(_) => "no daemon",
            Self::NotPermitted(_) => "you may not query the daemon",
            Self::Refused(_) => "the daemon is busy",
            Self::Garbage(_) => "no daemon of this version",
            Self::Broken(_) => "the daemon does not answer",
        }
    }
}

impl Client {
    /// Connects to the daemon that listens at `socket`.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`] and [`ClientError::NotPermitted`] are normal.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(socket.to_owned())
            }
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted(socket.to_owned()),
            _ => ClientError::Broken(error),
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a query, and returns the answer as the received line.
    ///
    /// # Errors
    /// As for [`Client::get`]; the content of the line is not checked.
    pub fn line(&mut self, get: Query) -> Result<String, ClientError> {
        self.exchange(&get.request())
    }

    /// Sends an order and returns the answer.
    ///
    /// # Errors
    /// Any; after an error this connection cannot be used any more.
    pub fn order(&mut self, order: &Order) -> Result<Body, ClientError> {
        understood(&self.exchange(&wire::order(order))?)
    }

    /// Asks for the history and returns the answer.
    ///
    /// # Errors
    /// Any; after an error this connection cannot be used any more.
    pub fn history(&mut self, select: &Select) -> Result<Body, ClientError> {
        understood(&self.exchange(&wire::history(select))?)
    }

    /// Asks for a page of samples, and returns the answer.
    ///
    /// # Errors
    /// Any; after an error this connection cannot be used any more.
    pub fn samples(&mut self, first: u64) -> Result<Body, ClientError> {
        understood(&self.exchange(&wire::samples(first))?)
    }

    /// Asks about this user's own processes, at the socket for that, and returns the answer as the received line.
    ///
    /// # Errors
    /// As for [`Client::line`].
    pub fn mine(&mut self) -> Result<String, ClientError> {
        self.exchange(&wire::mine())
    }

    fn exchange(&mut self, request: &str) -> Result<String, ClientError> {
        // A refused client gets an answer as well, so read one even if sending the query failed.
        let asked = writeln!(self.stream.get_ref(), "{request}");
        let mut line = String::new();
        let read = (&mut self.stream).take(LONGEST).read_line(&mut line);
        if line.ends_with('\n') {
            return Ok(line);
        }
        asked?;
        read?;
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }

    /// Sends a query and returns the answer.
    ///
    /// # Errors
    /// Any; after an error this connection cannot be used any more.
    pub fn get(&mut self, get: Query) -> Result<Body, ClientError> {
        understood(&self.line(get)?)
    }
}

/// Parses an answer; a refusal by the daemon is an error.
///
/// # Errors
/// [`ClientError::Refused`], or [`ClientError::Garbage`] if the line is not an answer.
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
