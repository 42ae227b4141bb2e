//! The listening side: accepts connections and speaks HTTP/1.1 on them.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::extract::Remote;
use crate::ws::Lifeline;

/// Bytes of a head at most, and of hyper's buffer.
const BUFFER: usize = 64 << 10;

/// Accepts until `stop`; connections end by themselves, `connections` knows when.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, connections: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                connections.spawn(converse(stream, remote, router.clone(), stop.clone()));
            }
            Err(error) => {
                // Out of file descriptors, mostly; accepting again at once would spin.
                tracing::error!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, remote: SocketAddr, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let (stream, progress) = Lifeline::new(stream);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        progress.asked();
        let (router, progress) = (router.clone(), progress.clone());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Remote(remote.ip().to_canonical()));
        async move {
            let answer = router.oneshot(request).await;
            let upgrades = matches!(&answer, Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS);
            progress.answered(upgrades);
            answer
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // The lifeline knows a head that does not come from a client that has nothing to ask.
        .header_read_timeout(None)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %remote, "connection");
    }
}
