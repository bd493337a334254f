//! A file transfer that survives its server.
//!
//! Bob has the same file on two servers. Alice downloads it from the first, which is taken out of service in
//! the middle of it: it leaves its place in the file, and the second one goes on there. Alice's program sees one
//! stream, and checks each byte. Run it with `cargo run -p cloak-node --example transfer`.

#![allow(
    clippy::disallowed_methods,
    reason = "a program of one page owns its tasks without a tracker"
)]

mod realm;

use std::time::Duration;

use cloak_node::{Arrival, Listener};
use realm::{Device, Failed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const FILES: u16 = 873;
const LENGTH: u64 = 64 << 20;
const PIECE: usize = 64 << 10;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Failed> {
    let alice = Device::found("alice", "laptop").await?;
    let first = alice.invite("bob", "first").await?;
    let second = first.further("second").await?;
    for (label, server) in [("first", &first), ("second", &second)] {
        let files = server.listeners.listen_movable(FILES, |_| true)?;
        server.publish();
        tokio::spawn(serve(label, files));
    }
    let mut stream = alice.connect("first.bob.cloak", FILES).await?;
    let (mut offset, mut piece) = (0, vec![0; PIECE]);
    let mut draining = None;
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        for byte in &piece[..count] {
            if *byte != byte_at(offset) {
                return Err(format!("a wrong byte at {offset}").into());
            }
            offset += 1;
        }
        if offset > LENGTH / 4 && draining.is_none() {
            println!("alice:  has {offset} bytes; the first server is taken out of service");
            let node = first.node.clone();
            draining = Some(tokio::spawn(async move {
                let drained = node.drain(Duration::from_secs(30)).await;
                node.shutdown().await;
                drained
            }));
        }
    }
    if let Some(draining) = draining {
        let drained = draining.await?;
        println!(
            "first:  {} session moved, {} left; its gateway is gone",
            drained.moved, drained.left
        );
    }
    if offset != LENGTH {
        return Err(format!("{offset} of {LENGTH} bytes").into());
    }
    println!("alice:  has all {offset} bytes, each checked");
    alice.node.shutdown().await;
    second.node.shutdown().await;
    Ok(())
}

async fn serve(label: &'static str, mut files: Listener) {
    while let Some(arrival) = files.accept().await {
        tokio::spawn(async move {
            if let Err(error) = send(label, arrival).await {
                println!("{label}: {error}");
            }
        });
    }
}

/// Sends the file, from where another server has left; leaves when it is asked to.
async fn send(label: &str, arrival: Arrival) -> Result<(), Failed> {
    let Arrival { mut stream, state, .. } = arrival;
    let mut offset = match state {
        None => 0,
        Some(state) => u64::from_be_bytes(state.try_into().map_err(|_| "a state of eight bytes")?),
    };
    println!("{label}: sends from {offset} on");
    let mut signals = stream.signals();
    let mut piece = vec![0; PIECE];
    while offset < LENGTH {
        let end = (offset + PIECE as u64).min(LENGTH);
        piece.clear();
        piece.extend((offset..end).map(byte_at));
        let mut rest = &piece[..];
        while !rest.is_empty() {
            tokio::select! {
                biased;
                () = signals.asked_to_leave() => {
                    println!("{label}: leaves at {offset}");
                    return stream.leave(offset.to_be_bytes().to_vec()).map_err(Into::into);
                }
                sent = stream.write(rest) => {
                    let sent = sent?;
                    rest = &rest[sent..];
                    offset += sent as u64;
                }
            }
        }
    }
    stream.shutdown().await?;
    Ok(())
}

/// What the file holds.
fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]
}
