//! HTTP/1 on the proxy port: CONNECT, forwarding of `http://` requests, and a few own pages.
//!
//! hyper parses and frames; [`gate`] stands between it and the socket and lets exactly one strictly
//! checked request through at a time. That keeps ambiguous requests out (hyper, as any tolerant
//! parser, accepts some), holds back what follows a CONNECT or an upgrade until it is answered, and
//! tells a client that merely finished sending from one that is gone.

mod authority;
mod body;
mod chunked;
mod forward;
mod gate;
mod head;
mod hop;
mod local_view;
mod page;
mod passage;
mod request;
mod tunnel;
mod upstreams;

use std::convert::Infallible;
use std::sync::Arc;

use cloak_node::Application;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tracing::debug;

use self::gate::Gate;
use self::passage::Passage;
use self::request::Exchanges;
use crate::ingress::Ingress;
use crate::stream::{Client, Prefixed};

/// Serves one HTTP connection, until it ends, becomes a tunnel that ends, or the proxy stops.
pub(crate) async fn serve(ingress: Ingress, client: Prefixed<Client>) {
    let passage = Arc::new(Passage::default());
    let gate = Gate::new(client, Arc::clone(&passage), ingress.settings().handshake_timeout);
    let stopping = ingress.shared.stopping.clone();
    let exchanges = Arc::new(Exchanges::new(ingress.clone(), Arc::clone(&passage)));
    let service = service_fn(|request| {
        let exchanges = Arc::clone(&exchanges);
        async move { Ok::<_, Infallible>(exchanges.answer(request).await) }
    });
    let mut connection = http1::Builder::new()
        .max_headers(head::FIELDS_MAX)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(gate), service)
        .with_upgrades();
    let ended = tokio::select! {
        biased;
        ended = &mut connection => ended,
        () = stopping.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Some(tunnel) = exchanges.take_tunnel() {
        tokio::join!(tunnel.run(&ingress), exchanges.end());
        return;
    }
    let Some(parts) = connection.into_parts() else { return };
    let client = parts.io.into_inner().into_client();
    match ended {
        Ok(()) => {
            tokio::join!(client.close(), exchanges.end());
        }
        Err(error) => {
            debug!(%error, "http");
            if passage.is_broken() {
                Box::new(client).reset();
            }
        }
    }
}
