//! One thing, with everything about it: a label and a value on each line.

use std::fmt::Write;

use cloak_gateway::control::message::{Attachable, GatewayStatus, Invitation, Reloaded};
use cloak_node::{Drained, HeldView, PingView, PlaceView, SessionView};

use super::quantity::{bytes, milliseconds, or_dash};
use super::tables::{movement, state, target};

/// `cloak status`
pub(crate) fn status(status: &GatewayStatus) -> String {
    let node = &status.node;
    let mut out = lines(&[
        ("name", node.name.clone()),
        ("overlay", node.overlay.clone()),
        ("virtual address", place(&node.place)),
        ("bindings", format!("{} held, {} copies", node.place.bindings, node.place.copies)),
        ("peers", format!("{} linked, {} known", node.peers_linked, node.peers_known)),
        ("sessions", format!("{} live, {} suspended", node.sessions_live, node.sessions_suspended)),
        ("relaying", format!("{} circuits", node.circuits)),
        ("services", status.services.to_string()),
        ("proxy", status.proxy_listen.join(" ")),
        ("overlay listener", node.overlay_listen.join(" ")),
        ("memory", format!("{} of {}", bytes(node.memory_held), bytes(node.memory_max))),
        ("membership until", node.membership_expires.clone()),
        ("certificate until", node.certificate_expires.clone()),
        ("device", node.device.clone()),
        ("entity", node.entity.clone()),
        ("realm", node.realm.clone()),
        ("home", status.home.clone()),
        ("running", format!("{}, pid {}", milliseconds(node.uptime_ms), node.pid)),
        ("version", node.version.clone()),
    ]);
    for locator in &node.locators {
        let confirmed = if locator.confirmed { "confirmed" } else { "not confirmed" };
        let value = format!("{} ({}, {confirmed})", locator.address, locator.source);
        out.push_str(&line("reachable at", &value));
    }
    for warning in &node.warnings {
        out.push_str(&line("WARNING", warning));
    }
    out
}

/// Where we are in the overlay, in words.
fn place(place: &PlaceView) -> String {
    match (place.kind.as_str(), &place.address) {
        ("inner", Some(address)) => {
            format!("{address}, {} children, {} guests", place.children, place.guests)
        }
        ("attached", _) => format!("attached to {} hosts", place.hosts.len()),
        (kind, _) => kind.to_owned(),
    }
}

/// `cloak ping`
pub(crate) fn ping(ping: &PingView) -> String {
    let round_trip = |trip: Option<u64>| trip.map_or_else(|| "no answer".to_owned(), milliseconds);
    let overlay = match ping.hops {
        Some(hops) => format!("{} over {hops} hops", round_trip(ping.overlay_ms)),
        None => round_trip(None),
    };
    lines(&[
        ("device", ping.name.clone()),
        ("overlay", overlay),
        ("direct", round_trip(ping.direct_ms)),
    ])
}

/// `cloak sessions show`
pub(crate) fn session(session: &SessionView) -> String {
    lines(&[
        ("id", session.id.clone()),
        ("state", format!("{} since {}", state(session.state), session.state_since)),
        ("reason", or_dash(session.reason.as_deref())),
        ("lost at", or_dash(session.expires.as_deref())),
        ("move", or_dash(movement(session).as_deref())),
        ("copy at", or_dash(session.escrow.as_deref())),
        (
            "owners before",
            format!("{} here, {} there", session.generation, session.peer_generation),
        ),
        ("missing side", or_dash(session.missing_side.as_deref())),
        ("role", session.role.clone()),
        ("peer", format!("{} (device {})", session.peer, session.peer_device)),
        ("port", target(session)),
        ("lane", or_dash(session.lane.as_deref())),
        ("round trip", session.rtt_ms.map_or_else(|| "-".to_owned(), milliseconds)),
        ("opened", session.opened_at.clone()),
        ("resumes", session.resumes.to_string()),
        ("sent", bytes(session.bytes_sent)),
        ("received", bytes(session.bytes_received)),
        ("held here", bytes(session.bytes_held)),
        ("application", session.application.clone()),
    ])
}

/// `cloak invite`: the invitation is the last line.
pub(crate) fn invitation(invitation: &Invitation) -> String {
    format!(
        "On the new machine, run `cloak join -` and paste the next line. It can be redeemed once, \
         until {}; whoever has it can join.\n{}\n",
        invitation.expires, invitation.invitation,
    )
}

/// `cloak sessions attach --listen` and `--unix`
pub(crate) fn attachable(attachable: &Attachable) -> String {
    let Attachable { held, listen } = attachable;
    let id = &held.id;
    format!("session {id} goes to the program that connects to {listen}\n{}", self::held(held))
}

/// Where the next program of a session goes on, and what is known of the one before.
pub(crate) fn held(held: &HeldView) -> String {
    let HeldView { from, latest, unread, .. } = *held;
    let before = "the program before it";
    let known = match unread {
        None => format!("it cannot be told what {before} had read"),
        Some(0) => format!("{before} had read everything"),
        Some(unread) if from == latest.saturating_sub(unread) => {
            format!("{before} had not read {unread} bytes: they come first")
        }
        Some(unread) => {
            let first = match latest.saturating_sub(from).min(unread) {
                0 => "none".to_owned(),
                count if count == unread => "all".to_owned(),
                count => format!("the last {count}"),
            };
            format!("{before} had not read {unread} bytes, and {first} of them come first")
        }
    };
    format!("it goes on from byte {from}; {known}\n")
}

/// `cloak drain`
pub(crate) fn drained(drained: &Drained) -> String {
    let Drained { moved, ended, left } = drained;
    let cut = match left {
        0 => String::new(),
        left => format!(", {left} cut at the deadline"),
    };
    format!("sessions: {moved} moved, {ended} ended{cut}\n")
}

/// `cloak reload`
pub(crate) fn reloaded(reloaded: &Reloaded) -> String {
    let changed = match reloaded.changed.as_slice() {
        [] => "nothing has changed\n".to_owned(),
        sections => format!("in force now: {}\n", sections.join(" ")),
    };
    match reloaded.restart_needed.as_slice() {
        [] => changed,
        sections => format!("{changed}in force after a restart: {}\n", sections.join(" ")),
    }
}

fn lines(pairs: &[(&str, String)]) -> String {
    pairs.iter().map(|(label, value)| line(label, value)).collect()
}

fn line(label: &str, value: &str) -> String {
    let (mut out, value) = (String::new(), value.replace(char::is_control, "\u{fffd}"));
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{label:<17} {value}");
    out
}
