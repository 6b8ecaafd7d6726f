//! OpenMetrics over HTTP, on loopback or a Unix socket. A client that is slow, or never says anything, costs itself.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    task::{self, AbortHandle},
    time,
};

use super::Metrics;
use crate::model::Listen;

/// Clients at once: one more, and the oldest has to go, which most likely never asks.
const MOST_CLIENTS: usize = 16;
/// For a request: hyper's own is 400 KiB.
const MOST_BUFFER: usize = 16 << 10;
/// From a client's connection to its end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two connections.
const BETWEEN_CLIENTS: Duration = Duration::from_millis(2);
/// After an accept that failed: descriptors are short.
const PAUSE: Duration = Duration::from_millis(200);

/// A socket that listens.
pub(super) enum MetricsServer {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl MetricsServer {
    /// Listens at `address`. A socket that nobody listens at any more is replaced.
    pub(super) async fn open(address: &Listen) -> io::Result<Self> {
        match address {
            Listen::Loopback(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Listen::Socket(path) => {
                if is_left_over(path).await {
                    fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
                Ok(Self::Unix(listener))
            }
        }
    }

    /// Serves for ever.
    pub(super) async fn serve(self, metrics: Metrics) {
        let mut clients: VecDeque<AbortHandle> = VecDeque::with_capacity(MOST_CLIENTS);
        loop {
            let metrics = metrics.clone();
            let client = match &self {
                Self::Tcp(listener) => {
                    listener.accept().await.map(|(client, _)| task::spawn(serve(client, metrics)))
                }
                Self::Unix(listener) => {
                    listener.accept().await.map(|(client, _)| task::spawn(serve(client, metrics)))
                }
            };
            let Ok(client) = client else {
                time::sleep(PAUSE).await;
                continue;
            };
            clients.retain(|client| !client.is_finished());
            if clients.len() >= MOST_CLIENTS
                && let Some(oldest) = clients.pop_front()
            {
                oldest.abort();
            }
            clients.push_back(client.abort_handle());
            time::sleep(BETWEEN_CLIENTS).await;
        }
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        // Before it is closed, so that it is nobody else's yet.
        if let Self::Unix(listener) = self
            && let Ok(address) = listener.local_addr()
            && let Some(path) = address.as_pathname()
        {
            let _ = fs::remove_file(path);
        }
    }
}

async fn is_left_over(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|facts| facts.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .await
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

async fn serve(client: impl AsyncRead + AsyncWrite + Unpin, metrics: Metrics) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MOST_BUFFER)
        .serve_connection(TokioIo::new(client), service);
    // Whatever a client does wrong is its own business.
    let _ = time::timeout(PATIENCE, connection).await;
}

fn answer(method: &Method, path: &str, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (path, method) {
        ("/metrics", &Method::GET | &Method::HEAD) => (
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            metrics.openmetrics(),
        ),
        ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET is all there is\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "try /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}
