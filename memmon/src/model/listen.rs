//! Addresses to listen on, which only this machine can reach.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

/// An address that only this machine can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP port of the loopback interface.
    Loopback(SocketAddr),
    /// A Unix socket.
    Socket(PathBuf),
}

impl Listen {
    /// Parses an absolute path, or an address such as `127.0.0.1:9819`. `None` for anything else, and for an address that
    /// other machines could reach.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            let is_path = !text.ends_with('/') && !text.contains('\0');
            return is_path.then(|| Self::Socket(Path::new(text).to_owned()));
        }
        let address: SocketAddr = text.parse().ok()?;
        (address.ip().is_loopback() && address.port() != 0).then_some(Self::Loopback(address))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => address.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_could_reach_is_refused() {
        for good in ["127.0.0.1:9819", "[::1]:9819", "127.8.9.1:1", "/run/memmon/metrics.sock"] {
            assert_eq!(Listen::parse(good).map(|listen| listen.to_string()).as_deref(), Some(good));
        }
        for bad in [
            "0.0.0.0:9819", "[::]:9819", "192.168.0.1:80", "127.0.0.1", "127.0.0.1:0", "localhost:1", "a/b",
            "/run/", "", "/a\0",
        ] {
            assert_eq!(Listen::parse(bad), None, "{bad}");
        }
    }
}
