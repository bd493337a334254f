//! Golden files: what people see, byte for byte.

use std::path::PathBuf;

use cloak_gateway::ServiceRow;
use cloak_gateway::control::message::{Attachable, GatewayStatus, Invitation, Reloaded};
use cloak_node::{
    Drained, HeldView, HopView, LocatorView, MemberView, MovingView, NameView, OfferView, PeerView,
    PingView, PlaceView, ResolveStep, SessionState, SessionView, Status, TraceView,
};

fn check(name: &str, shown: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/show/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, shown).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, golden, "{name}: UPDATE_GOLDEN=1 writes it anew");
}

const SINCE: &str = "2026-11-22T14:28:00Z";

fn suspended() -> SessionView {
    SessionView {
        id: "00112233445566778899aabbccddeeff".to_owned(),
        state: SessionState::Suspended,
        state_since: SINCE.to_owned(),
        reason: Some("peer-unreachable".to_owned()),
        missing_side: Some("peer".to_owned()),
        role: "initiator".to_owned(),
        peer: "bob.cloak".to_owned(),
        peer_device: "desk.bob.cloak".to_owned(),
        port: 22,
        host: None,
        lane: None,
        opened_at: "2026-11-22T12:00:00Z".to_owned(),
        resumes: 12,
        bytes_sent: 5_000,
        bytes_received: 5_000_000_000,
        bytes_held: 70_000,
        rtt_ms: Some(23),
        application: "127.0.0.1:40112".to_owned(),
        device: None,
        expires: Some("2026-11-23T14:28:00Z".to_owned()),
        moving: None,
        generation: 0,
        peer_generation: 1,
        escrow: None,
    }
}

fn live() -> SessionView {
    SessionView {
        id: "ffeeddccbbaa99887766554433221100".to_owned(),
        state: SessionState::Live,
        reason: None,
        missing_side: None,
        role: "responder".to_owned(),
        peer: "alice.cloak".to_owned(),
        lane: Some("direct".to_owned()),
        port: 80,
        resumes: 0,
        expires: None,
        ..suspended()
    }
}

/// On its way to another device.
fn moving() -> SessionView {
    let moving = MovingView {
        side: "own".to_owned(),
        to: "phone.alice.cloak".to_owned(),
        since: SINCE.to_owned(),
    };
    let reason = Some("moving".to_owned());
    SessionView { state: SessionState::Held, reason, moving: Some(moving), lane: None, ..live() }
}

/// It went there.
fn moved() -> SessionView {
    let (reason, device) = (Some("moved".to_owned()), Some("phone.alice.cloak".to_owned()));
    SessionView { state: SessionState::Moved, reason, device, lane: None, generation: 2, ..live() }
}

fn status() -> GatewayStatus {
    GatewayStatus {
        node: Status {
            version: "0.1.0".to_owned(),
            pid: 4242,
            name: "laptop.alice.cloak".to_owned(),
            device: "d".repeat(64),
            entity: "e".repeat(64),
            realm: "f".repeat(64),
            overlay: "linked".to_owned(),
            place: PlaceView {
                kind: "inner".to_owned(),
                address: Some("3.14".to_owned()),
                tree: Some("dddddddddd@1795305600".to_owned()),
                term: Some(1_795_305_600),
                parent: Some("c".repeat(64)),
                children: 2,
                guests: 1,
                bindings: 17,
                copies: 40,
                ..PlaceView::default()
            },
            overlay_listen: vec!["[::]:7140".to_owned()],
            locators: vec![LocatorView {
                address: "192.0.2.7:7140".to_owned(),
                source: "observed".to_owned(),
                confirmed: true,
            }],
            peers_linked: 2,
            peers_known: 3,
            circuits: 4,
            sessions_live: 1,
            sessions_suspended: 1,
            memory_held: 70_000,
            memory_max: 512 << 20,
            membership_expires: "2027-11-22T12:00:00Z".to_owned(),
            certificate_expires: "2027-11-23T12:00:00Z".to_owned(),
            uptime_ms: 7_500_000,
            warnings: vec!["the disk is full; suspended sessions stay in memory".to_owned()],
        },
        proxy_listen: vec!["127.0.0.1:1080".to_owned()],
        services: 1,
        home: "/home/alice/.local/share/cloak".to_owned(),
    }
}

fn unreachable() -> PeerView {
    PeerView {
        device: "d".repeat(64),
        name: "desk.bob.cloak".to_owned(),
        state: "unreachable".to_owned(),
        state_since: SINCE.to_owned(),
        address: None,
        link: None,
        locators: vec!["192.0.2.9:7140".to_owned()],
        role: Some("child".to_owned()),
        virtual_address: Some("3.14.1".to_owned()),
        relays: Vec::new(),
        is_relay: false,
        rtt_ms: None,
        lanes: 1,
        idle_lanes: 2,
        sessions: 1,
        last_error: Some("timed out".to_owned()),
    }
}

fn web() -> ServiceRow {
    ServiceRow {
        port: 80,
        target: "127.0.0.1:8080".to_owned(),
        allow: vec!["realm".to_owned(), "bob.cloak".to_owned()],
        movable: "idle".to_owned(),
        balance: "load".to_owned(),
    }
}

fn alias() -> NameView {
    NameView {
        name: "db".to_owned(),
        kind: "alias".to_owned(),
        target: "postgres.bob.cloak".to_owned(),
        epoch: None,
        expires: None,
    }
}

fn entity() -> NameView {
    NameView {
        name: "bob.cloak".to_owned(),
        kind: "entity".to_owned(),
        target: "e".repeat(64),
        epoch: Some(3),
        expires: Some(SINCE.to_owned()),
    }
}

fn revoked() -> MemberView {
    MemberView {
        name: "bob.cloak".to_owned(),
        id: "e".repeat(64),
        expires: SINCE.to_owned(),
        revoked: true,
    }
}

fn steps() -> [ResolveStep; 3] {
    [
        ResolveStep {
            step: "name".to_owned(),
            ok: true,
            detail: "bob.cloak is a valid name".to_owned(),
            ..ResolveStep::default()
        },
        ResolveStep {
            step: "entity".to_owned(),
            ok: true,
            detail: "e".repeat(64),
            binder: Some("c".repeat(64)),
            binder_name: Some("desk.carol.cloak".to_owned()),
            hops: Some(3),
            age_ms: Some(42_000),
            ..ResolveStep::default()
        },
        ResolveStep {
            step: "path".to_owned(),
            ok: false,
            detail: "no device answers; is one up?".to_owned(),
            code: Some("peer-unreachable".to_owned()),
            ..ResolveStep::default()
        },
    ]
}

fn ping() -> PingView {
    PingView {
        device: "d".repeat(64),
        name: "desk.bob.cloak".to_owned(),
        overlay_ms: Some(41),
        hops: Some(3),
        direct_ms: None,
    }
}

fn trace() -> TraceView {
    let hop = |name: Option<&str>, address: &str| HopView {
        device: "d".repeat(64),
        name: name.map(str::to_owned),
        address: address.to_owned(),
    };
    TraceView {
        to: "desk.bob.cloak".to_owned(),
        arrived: true,
        hops: vec![hop(Some("laptop.alice.cloak"), "3.14"), hop(None, "root"), hop(None, "7")],
    }
}

#[test]
fn people_see_what_the_golden_files_say() {
    check("sessions.txt", &super::sessions(&[suspended(), live()]));
    check("session.txt", &super::session(&suspended()));
    check("status.txt", &super::status(&status()));
    check("peers.txt", &super::peers(&[unreachable()]));
    check("services.txt", &super::services(&[web()]));
    check("names.txt", &super::names(&[alias(), entity()]));
    check("members.txt", &super::members(&[revoked()]));
    check("steps.txt", &super::steps(&steps()));
    check("ping.txt", &super::ping(&ping()));
    check("trace.txt", &super::trace(&trace()));
    check(
        "invitation.txt",
        &super::invitation(&Invitation {
            invitation: "cloak-invitation-1-xyz".to_owned(),
            expires: SINCE.to_owned(),
            warning: None,
        }),
    );
    let reloaded = Reloaded {
        changed: vec!["aliases".to_owned(), "service".to_owned()],
        restart_needed: vec!["overlay".to_owned()],
    };
    check("reloaded.txt", &super::reloaded(&reloaded));
}

#[test]
fn empty_lists_say_so() {
    assert_eq!(super::sessions(&[]), "no sessions\n");
    assert!(super::services(&[]).contains("--expose"));
    let nothing = Reloaded { changed: Vec::new(), restart_needed: Vec::new() };
    assert_eq!(super::reloaded(&nothing), "nothing has changed\n");
}

/// Scripts read these; a field may be added, none renamed.
#[test]
fn json_fields_are_the_documented_ones() {
    let fields = |json: serde_json::Value| {
        json.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        fields(serde_json::to_value(live()).unwrap()),
        "application bytes_held bytes_received bytes_sent device escrow expires generation host id lane missing_side \
         moving opened_at peer peer_device peer_generation port reason resumes role rtt_ms state state_since",
    );
    assert_eq!(
        fields(serde_json::to_value(status()).unwrap()),
        "certificate_expires circuits device entity home locators membership_expires memory_held memory_max name overlay \
         overlay_listen peers_known peers_linked pid place proxy_listen realm services sessions_live \
         sessions_suspended uptime_ms version warnings",
    );
    assert_eq!(serde_json::to_value(SessionState::Suspended).unwrap(), "suspended");
}

#[test]
fn moves() {
    check("sessions-moves.txt", &super::sessions(&[moving(), moved()]));
    check("session-moving.txt", &(super::session(&moving()) + "\n" + &super::session(&moved())));
    let on_phone = SessionView { device: Some("phone.alice.cloak".to_owned()), ..suspended() };
    check("entity-sessions.txt", &super::entity_sessions(&[live(), on_phone]));
    let offer = OfferView {
        id: suspended().id,
        from: "alice.cloak".to_owned(),
        from_device: "laptop.alice.cloak".to_owned(),
        role: "initiator".to_owned(),
        peer: "bob.cloak".to_owned(),
        port: 22,
        host: None,
        offered_at: SINCE.to_owned(),
    };
    check("offers.txt", &super::offers(&[offer]));
    let held = HeldView {
        id: suspended().id,
        from: 4096,
        earliest: 1024,
        latest: 5000,
        unread: Some(904),
    };
    let listen = "127.0.0.1:40111".to_owned();
    let mut shown = super::attachable(&Attachable { held: held.clone(), listen });
    let known = [(4096, Some(0)), (5000, None), (5000, Some(9000)), (4500, Some(904))];
    for (from, unread) in known {
        shown += &super::held(&HeldView { from, unread, ..held.clone() });
    }
    check("attachable.txt", &shown);
    let all_went = Drained { moved: 12, ended: 3, left: 0 };
    let shown = super::drained(&all_went) + &super::drained(&Drained { left: 2, ..all_went });
    check("drained.txt", &shown);
}
