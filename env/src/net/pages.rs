//! The pages that every service has: health, readiness and metrics over plain HTTP.

use super::Listener;
use super::bounded::{BoundedListener, BoundedStream};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use cairn_core::limits::{HTTP_CONNECTION_MAX, HTTP_CONNECTIONS_MAX};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use tracing::error;

/// What `/readyz` says; each with a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It serves: 200.
    Ready(String),
    /// Waiting may help: 503.
    NotYet(String),
    /// Only a change from outside helps: 409.
    Never(String),
}

impl IntoResponse for Readiness {
    fn into_response(self) -> axum::response::Response {
        let (status, text) = match self {
            Self::Ready(text) => (StatusCode::OK, text),
            Self::NotYet(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
            Self::Never(text) => (StatusCode::CONFLICT, text),
        };
        (status, text + "\n").into_response()
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics` until `stopped` completes. A socket that breaks ends nothing: nobody is
/// accepted any more, which is no reason to stop a service.
///
/// # Errors
/// The server itself failed.
pub async fn serve<R, M>(
    listener: Listener,
    readiness: R,
    metrics: M,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()>
where
    R: Fn() -> Readiness + Clone + Send + Sync + 'static,
    M: Fn() -> String + Clone + Send + Sync + 'static,
{
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let router: Router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness()))
        .route("/metrics", get(async move || (kind, metrics())));
    let accepting = Accepting(BoundedListener::new(listener, HTTP_CONNECTIONS_MAX, HTTP_CONNECTION_MAX));
    axum::serve(accepting, router).with_graceful_shutdown(stopped).await
}

/// The network door as axum takes it: so many connections, each for so long.
struct Accepting(BoundedListener);

impl axum::serve::Listener for Accepting {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        match self.0.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                error!(%error, "http socket is broken");
                std::future::pending().await
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Net;
    use crate::net::tcp::TcpNet;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: &str, path: &str) -> String {
        let mut stream = TcpNet.connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn each_readiness_has_its_status() {
        for (readiness, status) in [
            (Readiness::Ready("serves".into()), "200"),
            (Readiness::NotYet("waits".into()), "503"),
            (Readiness::Never("of another cluster".into()), "409"),
        ] {
            let listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let says = readiness.clone();
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let stopped = async move { stopped.await.unwrap_or(()) };
            let server =
                tokio::spawn(serve(listener, move || says.clone(), || "figure 1\n".to_owned(), stopped));
            let answer = get(&address, "/readyz").await;
            let (Readiness::Ready(text) | Readiness::NotYet(text) | Readiness::Never(text)) = readiness;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(answer.ends_with(&format!("{text}\n")), "{answer}");
            assert!(get(&address, "/healthz").await.ends_with("ok\n"));
            assert!(get(&address, "/metrics").await.contains("figure 1"));
            drop(stop);
            server.await.unwrap().unwrap();
        }
    }
}
