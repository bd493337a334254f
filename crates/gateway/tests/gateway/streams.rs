//! Half-closes and resets, on every way through the proxy.

use std::io::ErrorKind;

use cloak_node::Application;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::*;

/// A stream to `backend` by SOCKS5 to a session, by CONNECT, and to an ordinary address.
async fn ways(backend: std::net::SocketAddr) -> (Gateway, Vec<TcpStream>) {
    let gateway = Gateway::start(&[("bob.cloak", Peer::Backend(backend))]);
    let (code, socks) = gateway.socks5("bob.cloak", 80).await;
    assert_eq!(code, 0);
    let (head, connect) = gateway.http_connect("bob.cloak:80").await;
    assert_eq!(outcome(&head).0, 200);
    let (code, ordinary) = gateway.socks5("127.0.0.1", backend.port()).await;
    assert_eq!(code, 0);
    (gateway, vec![socks, connect, ordinary])
}

#[tokio::test]
async fn a_client_that_finished_sending_still_gets_the_whole_reply() {
    let backend = backend(|mut stream| async move {
        let request = read_all(&mut stream).await;
        stream.write_all(format!("got {}", request.len()).as_bytes()).await.unwrap();
    })
    .await;
    let (_gateway, streams) = ways(backend).await;
    for mut stream in streams {
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut stream).await, "got 100000");
    }
}

#[tokio::test]
async fn a_client_may_go_on_sending_after_the_reply_ended() {
    let (sent, mut received) = mpsc::channel(8);
    let backend = backend(move |mut stream| {
        let sent = sent.clone();
        async move {
            stream.shutdown().await.unwrap();
            sent.send(read_all(&mut stream).await).await.unwrap();
        }
    })
    .await;
    let (_gateway, streams) = ways(backend).await;
    for mut stream in streams {
        assert_eq!(read_all(&mut stream).await, "");
        stream.write_all(b"still here").await.unwrap();
        drop(stream);
        assert_eq!(timeout(DEADLINE, received.recv()).await.unwrap().unwrap(), "still here");
    }
}

#[tokio::test]
async fn resets_travel_in_both_directions() {
    let (handed, mut backends) = mpsc::channel(8);
    let backend = backend(move |stream| {
        let handed = handed.clone();
        async move { handed.send(stream).await.unwrap() }
    })
    .await;
    let (_gateway, streams) = ways(backend).await;
    for (index, mut stream) in streams.into_iter().enumerate() {
        let mut server = timeout(DEADLINE, backends.recv()).await.unwrap().unwrap();
        stream.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();
        if index % 2 == 0 {
            Box::new(stream).reset();
            let end = timeout(DEADLINE, server.read_u8()).await.unwrap().unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        } else {
            Box::new(server).reset();
            let end = timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        }
    }
}

#[tokio::test]
async fn bulk_data_is_carried_whole_in_both_directions() {
    let (_gateway, streams) = ways(echo().await).await;
    for stream in streams {
        let (mut read, mut write) = stream.into_split();
        let block = [7; 1 << 16];
        let writing = async move {
            for _ in 0..64 {
                write.write_all(&block).await.unwrap();
            }
        };
        let reading = async move {
            let mut back = Vec::new();
            read.read_to_end(&mut back).await.unwrap();
            back
        };
        let ((), back) = timeout(DEADLINE, async { tokio::join!(writing, reading) }).await.unwrap();
        assert_eq!(back.len(), 64 << 16);
        assert!(back.iter().all(|byte| *byte == 7));
    }
}

#[tokio::test]
async fn stopping_ends_ordinary_connections_and_leaves_sessions_to_the_node() {
    let (gateway, mut streams) = ways(echo().await).await;
    gateway.cancel.cancel();
    assert_eq!(read_all(&mut streams[2]).await, "");
    streams[0].write_all(b"hello").await.unwrap();
    assert_eq!(read_text(&mut streams[0], 5).await, "hello");
    assert!(TcpStream::connect(gateway.address).await.is_err(), "no new connections");
}
