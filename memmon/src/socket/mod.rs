//! The sockets at which memmon answers, as far as the status and the metrics have the same needs: the file of a Unix
//! socket, and a maximum of clients.

mod clients;
mod file;

pub use clients::Clients;
pub use file::{SocketFile, trusted, usable};
