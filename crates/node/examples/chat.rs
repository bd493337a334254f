//! A chat that hops between two devices while it goes on.
//!
//! Alice talks to bob from her laptop. In the middle of it her phone takes the conversation over, with the
//! number of the last line as its state; bob's program notices nothing but a name. Run it with
//! `cargo run -p cloak-node --example chat`.

#![allow(
    clippy::disallowed_methods,
    reason = "a program of one page owns its tasks without a tracker"
)]

mod realm;

use cloak_node::{Arrival, Stream};
use realm::{Device, Failed};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const CHAT: u16 = 5222;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Failed> {
    let laptop = Device::found("alice", "laptop").await?;
    let phone = laptop.further("phone").await?;
    let bob = laptop.invite("bob", "desk").await?;
    let mut chats = bob.listeners.listen(CHAT, |from| from.peer == "alice.cloak")?;
    bob.publish();

    let stream = laptop.connect("bob.cloak", CHAT).await?;
    let answering = tokio::spawn(async move {
        let Arrival { stream, .. } = chats.accept().await.ok_or("no session")?;
        answer(stream).await
    });
    let id = laptop.node.sessions().first().map(|row| row.id.clone()).ok_or("no session")?;

    // The laptop talks until it is asked to leave.
    let talking = tokio::spawn(talk("laptop", stream, 1, Some(3)));
    let (stream, state) = tokio::try_join!(async { talking.await?.map(|_| ()) }, async {
        Ok(phone.node.attach(&id).await?)
    },)
    .map(|((), attached)| attached)?;
    let next = u32::from_be_bytes(state.try_into().map_err(|_| "a state of four bytes")?);
    println!("phone:  goes on at line {next}");
    talk("phone", stream, next, None).await?;
    let lines = answering.await??;
    println!("bob:    {lines} lines, each once and in order");
    for device in [&laptop, &phone, &bob] {
        device.node.shutdown().await;
    }
    Ok(())
}

/// Says lines and hears an answer to each; six in all, or until the session is to go on elsewhere. `wait_after`
/// that many it waits for that.
async fn talk(
    device: &str,
    mut stream: Stream,
    mut line: u32,
    wait_after: Option<u32>,
) -> Result<(), Failed> {
    let mut signals = stream.signals();
    while line <= 6 {
        if wait_after.is_some_and(|last| line > last) {
            signals.asked_to_leave().await;
            println!("{device}: leaves after line {}", line - 1);
            return stream.leave(line.to_be_bytes().to_vec()).map_err(Into::into);
        }
        stream.write_all(format!("line {line} from the {device}\n").as_bytes()).await?;
        let mut heard = String::new();
        // Answers are short, and nothing follows one before we speak: no byte is read too many.
        BufReader::with_capacity(64, &mut stream).read_line(&mut heard).await?;
        println!("{device}: {}", heard.trim_end());
        line += 1;
    }
    stream.shutdown().await?;
    Ok(())
}

/// Answers each line, which has to be the next one; gives how many there were.
async fn answer(stream: Stream) -> Result<u32, Failed> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut count) = (String::new(), 0);
    while stream.read_line(&mut line).await? > 0 {
        count += 1;
        if !line.starts_with(&format!("line {count} ")) {
            return Err(format!("line {count} was to come, and this came: {line}").into());
        }
        stream.write_all(format!("bob heard {line}").as_bytes()).await?;
        line.clear();
    }
    stream.shutdown().await?;
    Ok(count)
}
