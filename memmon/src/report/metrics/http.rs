//! Metrics over HTTP, on loopback or a Unix socket. A slow or silent client delays only itself.

use std::{convert::Infallible, io, time::Duration};

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
    net::{TcpListener, UnixListener},
    time,
};

use super::{Metrics, textfile::text_format};
use crate::{
    model::Listen,
    socket::{self, Clients, SocketFile},
};

/// Clients at once. One more client disconnects the oldest one, which is the least likely to ask.
const MOST_CLIENTS: usize = 16;
/// For a request: hyper's own is 400 KiB.
const MOST_BUFFER: usize = 16 << 10;
/// Time from a client's connection to its end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time without a client after which the server checks that clients can still find its socket.
const LOOK: Duration = Duration::from_secs(5);

/// A socket that listens.
pub(super) enum MetricsServer {
    Tcp(TcpListener),
    Unix(SocketFile, UnixListener),
}

impl MetricsServer {
    /// Listens at `address`. A socket that no process listens at any more is replaced; the folder of a socket must be
    /// root's alone.
    pub(super) async fn open(address: &Listen) -> io::Result<Self> {
        match address {
            Listen::Loopback(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Listen::Socket(path) => {
                socket::trusted(path)?;
                let (file, listener) = SocketFile::take(path)?;
                file.admit_group()?;
                Ok(Self::Unix(file, UnixListener::from_std(listener)?))
            }
        }
    }

    /// Serves until the file of the socket is gone, if it has one.
    pub(super) async fn serve(&self, metrics: Metrics) {
        let mut clients = Clients::new(MOST_CLIENTS);
        loop {
            let metrics = metrics.clone();
            match self {
                Self::Tcp(listener) => match listener.accept().await {
                    Ok((client, _)) => clients.serve(serve(client, metrics)).await,
                    Err(_) => clients.failed().await,
                },
                Self::Unix(file, listener) => match time::timeout(LOOK, listener.accept()).await {
                    Ok(Ok((client, _))) => clients.serve(serve(client, metrics)).await,
                    Ok(Err(_)) => clients.failed().await,
                    Err(_) if file.is_in_place() => {}
                    Err(_) => return,
                },
            }
        }
    }
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
