//! Calendars that are wrong: said in a sentence, and harmless once they are set right.

use std::sync::Arc;
use std::time::Duration;

use cloak_node::{Code, Early, Home, InviteKind, InviteRequest, Node, OpenRequest, Opener, Target};
use cloak_transport::{Clock, SkewedClock, SystemClock};

use crate::realm::{Member, echo, eventually, found, join, open, start, system};

const YEAR: i64 = 366 * 86_400;
/// Certificates of devices live for a year: both are far outside.
const WRONG: [(i64, &str); 2] = [(-YEAR, "is not valid yet"), (2 * YEAR, "expired at")];

fn clock_ahead(seconds: i64) -> Arc<SkewedClock> {
    let clock = Arc::new(SkewedClock::default());
    clock.set_wall_ahead(seconds);
    clock
}

async fn restart(member: Member, clock: Arc<dyn Clock>) -> Member {
    let dir = member.dir.path().join("home");
    member.node.shutdown().await;
    drop(member.node);
    let home = eventually("the home is free", || async { Home::open(&dir).ok() }).await;
    start(member.dir, home, clock).await
}

/// The sentence in `status` that the clock is the cause of.
async fn told(node: &Node) -> Option<String> {
    let warnings = node.status().await.warnings;
    warnings.into_iter().find(|warning| warning.contains("other devices cannot learn"))
}

async fn refusal(node: &Node, name: &str) -> Option<Code> {
    let request = OpenRequest {
        name: name.to_owned(),
        target: Target::Service(7),
        application: String::new(),
        early: Early::default(),
    };
    node.open(request).await.err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_is_told_and_costs_nothing_once_it_is_right() {
    for (ahead, sentence) in WRONG {
        let alice = found("alice", system()).await;
        let bob = join(&alice.node, "bob", system()).await;
        echo(&mut open(&bob.node, "alice.cloak").await, b"before").await;
        let clock = clock_ahead(ahead);
        let bob = restart(bob, Arc::clone(&clock) as _).await;
        let warning = told(&bob.node).await.expect("a sentence from the start");
        assert!(warning.contains(sentence) && warning.contains("here it is"), "{warning}");
        if ahead > 0 {
            eventually("what is over was swept", || async {
                let warnings = bob.node.status().await.warnings;
                warnings.iter().any(|said| said.contains("our membership expires")).then_some(())
            })
            .await;
        }
        assert_eq!(refusal(&bob.node, "alice.cloak").await, Some(Code::Expired));
        let row = eventually("alice is not forgotten", || async {
            bob.node.peers().await.into_iter().next()
        })
        .await;
        assert_ne!(row.state, "linked");

        clock.set_wall_ahead(0);
        eventually("the sentence goes", || async { told(&bob.node).await.is_none().then_some(()) })
            .await;
        echo(&mut open(&bob.node, "alice.cloak").await, b"after").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_with_a_wrong_clock_is_refused_in_a_sentence() {
    let alice = found("alice", system()).await;
    for (ahead, name, sentence) in [(-YEAR, "bob", "is behind"), (2 * YEAR, "carol", "expired")] {
        let ttl = Duration::from_secs(60);
        let request = InviteRequest { kind: InviteKind::Member, name: None, ttl };
        let invitation = alice.node.invite(request).await.unwrap().invitation;
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let clock = clock_ahead(ahead);
        let error = Home::join(&home, &invitation, Some(name), "device", &*clock).await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains(sentence) && text.contains("here it is"), "{text}");
        let again = Home::join(&home, &invitation, Some(name), "device", &SystemClock).await;
        assert!(again.is_ok(), "it was not used up: {:?}", again.err());
    }
}
