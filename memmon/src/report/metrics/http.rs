//! Metrics over HTTP, on loopback or a Unix socket. A slow or silent client delays only itself.

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
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, VARY},
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

use super::{Metrics, textfile::text_format};
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
        let response = answer(request.method(), request.uri().path(), request.headers(), &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MOST_BUFFER)
        .serve_connection(TokioIo::new(client), service);
    // Whatever a client does wrong is its own business.
    let _ = time::timeout(PATIENCE, connection).await;
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

fn answer(method: &Method, path: &str, headers: &HeaderMap, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (path, method) {
        ("/metrics", &Method::GET | &Method::HEAD) if accepts_openmetrics(headers) => {
            (StatusCode::OK, OPENMETRICS, metrics.openmetrics())
        }
        ("/metrics", &Method::GET | &Method::HEAD) => {
            (StatusCode::OK, CLASSIC, text_format(&metrics.openmetrics()))
        }
        ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET is all there is\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "try /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// Whether a client names OpenMetrics in its Accept header (RFC 9110, 12.5.1), as Prometheus does. Every other client
/// gets the classic text format, which `promtool check metrics` and curl users expect.
fn accepts_openmetrics(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named =
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
        // A weight of 0 means "not acceptable".
        let refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
        });
        is_named && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_clients_that_name_it() {
        // Prometheus 2.42 and 3.5, node_exporter's own tests, curl.
        for (accept, openmetrics) in [
            (
                &[
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
               text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ][..],
                true,
            ),
            (&["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.2"], true),
            (&["text/plain", "Application/OpenMetrics-Text; q=0.3"], true),
            (&["application/openmetrics-text;q=0, text/plain"], false),
            (&["application/openmetrics-text; q=0.0"], false),
            (&["text/plain;version=0.0.4"], false),
            (&["*/*"], false),
            (&[""], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(accepts_openmetrics(&headers), openmetrics, "{accept:?}");
            let response = answer(&Method::GET, "/metrics", &headers, &Metrics::default());
            assert_eq!(response.headers()[CONTENT_TYPE], if openmetrics { OPENMETRICS } else { CLASSIC });
        }
    }
}
