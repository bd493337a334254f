//! Lists: one row for each thing.

use cloak_gateway::ServiceRow;
use cloak_node::{
    MemberView, MovingView, NameView, OfferView, PeerView, ResolveStep, SessionState, SessionView,
    TraceView,
};

use super::quantity::{bytes, milliseconds, or_dash};
use super::table::Table;

/// Digits of a session's id that a list shows; any unique beginning is accepted as an id.
const ID_SHOWN: usize = 10;

/// `cloak sessions`
pub(crate) fn sessions(rows: &[SessionView]) -> String {
    let mut table = Table::new([
        "ID",
        "STATE",
        "SINCE",
        "ROLE",
        "PEER",
        "PORT",
        "LANE",
        ">RESUMES",
        ">SENT",
        ">RECEIVED",
        "REASON",
        "MOVE",
    ]);
    for row in rows {
        table.row([
            row.id.chars().take(ID_SHOWN).collect(),
            state(row.state).to_owned(),
            row.state_since.clone(),
            row.role.clone(),
            row.peer.clone(),
            target(row),
            or_dash(row.lane.as_deref()),
            row.resumes.to_string(),
            bytes(row.bytes_sent),
            bytes(row.bytes_received),
            or_dash(row.reason.as_deref()),
            or_dash(movement(row).as_deref()),
        ]);
    }
    listed(rows, &table, "no sessions")
}

/// Where a session went, or which of its ends is on its way, and to where.
pub(super) fn movement(row: &SessionView) -> Option<String> {
    if row.state == SessionState::Moved {
        return row.device.as_ref().map(|device| format!("went to {device}"));
    }
    let MovingView { side, to, since } = row.moving.as_ref()?;
    let whose = if side == "peer" { "the other end" } else { "this end" };
    Some(format!("{whose} to {to} since {since}"))
}

/// `cloak sessions --entity`
pub(crate) fn entity_sessions(rows: &[SessionView]) -> String {
    let mut table =
        Table::new(["ID", "DEVICE", "STATE", "ROLE", "PEER", "PORT", ">SENT", ">RECEIVED"]);
    for row in rows {
        table.row([
            row.id.chars().take(ID_SHOWN).collect(),
            row.device.clone().unwrap_or_else(|| "(this one)".to_owned()),
            state(row.state).to_owned(),
            row.role.clone(),
            row.peer.clone(),
            target(row),
            bytes(row.bytes_sent),
            bytes(row.bytes_received),
        ]);
    }
    listed(rows, &table, "no sessions")
}

/// `cloak sessions offers`
pub(crate) fn offers(rows: &[OfferView]) -> String {
    let mut table = Table::new(["ID", "FROM", "ROLE", "PEER", "PORT", "SINCE"]);
    for row in rows {
        table.row([
            row.id.chars().take(ID_SHOWN).collect(),
            row.from_device.clone(),
            row.role.clone(),
            row.peer.clone(),
            address(row.host.as_deref(), row.port),
            row.offered_at.clone(),
        ]);
    }
    listed(rows, &table, "no offers")
}

/// A service's port, or what is reached through an exit.
pub(super) fn target(row: &SessionView) -> String {
    address(row.host.as_deref(), row.port)
}

fn address(host: Option<&str>, port: u16) -> String {
    match host {
        None => port.to_string(),
        Some(host) if host.contains(':') => format!("[{host}]:{port}"),
        Some(host) => format!("{host}:{port}"),
    }
}

/// `cloak peers`
pub(crate) fn peers(rows: &[PeerView]) -> String {
    let mut table = Table::new([
        "PEER",
        "STATE",
        "SINCE",
        "ROLE",
        "ADDRESS",
        ">RTT",
        ">LANES",
        ">SESSIONS",
        "ERROR",
    ]);
    for row in rows {
        table.row([
            row.name.clone(),
            row.state.clone(),
            row.state_since.clone(),
            or_dash(row.role.as_deref()),
            match row.link.as_deref() {
                Some("relay") => "(relay)".to_owned(),
                _ => or_dash(row.address.as_deref()),
            },
            row.rtt_ms.map_or_else(|| "-".to_owned(), milliseconds),
            format!("{}+{}", row.lanes, row.idle_lanes),
            row.sessions.to_string(),
            or_dash(row.last_error.as_deref()),
        ]);
    }
    listed(rows, &table, "no other device is known yet; `cloak invite` makes an invitation")
}

/// `cloak services`
pub(crate) fn services(rows: &[ServiceRow]) -> String {
    let mut table = Table::new([">PORT", "TARGET", "ALLOW", "MOVABLE", "BALANCE"]);
    for row in rows {
        table.row([
            row.port.to_string(),
            row.target.clone(),
            row.allow.join(" "),
            row.movable.clone(),
            row.balance.clone(),
        ]);
    }
    listed(
        rows,
        &table,
        "no services; add a [[service]] to config.toml, or use `cloak up --expose`",
    )
}

/// `cloak names`
pub(crate) fn names(rows: &[NameView]) -> String {
    let mut table = Table::new(["NAME", "KIND", "STANDS FOR", ">EPOCH", "EXPIRES"]);
    for row in rows {
        table.row([
            row.name.clone(),
            row.kind.clone(),
            row.target.clone(),
            row.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
            or_dash(row.expires.as_deref()),
        ]);
    }
    listed(rows, &table, "no names")
}

/// `cloak member list` and `cloak device list`
pub(crate) fn members(rows: &[MemberView]) -> String {
    let mut table = Table::new(["NAME", "ID", "EXPIRES", "REVOKED"]);
    for row in rows {
        let revoked = if row.revoked { "yes" } else { "no" };
        table.row([row.name.clone(), row.id.clone(), row.expires.clone(), revoked.to_owned()]);
    }
    listed(rows, &table, "none")
}

/// `cloak resolve` and `cloak why`
pub(crate) fn steps(rows: &[ResolveStep]) -> String {
    let mut table = Table::new(["", "STEP", "FOUND"]);
    for row in rows {
        let mark = if row.ok { "ok" } else { "FAIL" };
        let detail = match &row.code {
            Some(code) => format!("{} ({code})", row.detail),
            None => format!("{}{}", row.detail, source(row)),
        };
        table.row([mark.to_owned(), row.step.clone(), detail]);
    }
    listed(rows, &table, "nothing was looked up")
}

/// Who had the record behind a step.
fn source(step: &ResolveStep) -> String {
    let Some(binder) = step.binder_name.as_ref().or(step.binder.as_ref()) else {
        return String::new();
    };
    let age = step.age_ms.map_or_else(|| "-".to_owned(), milliseconds);
    let cached = if step.cached { ", remembered" } else { "" };
    let hops = step.hops.unwrap_or_default();
    format!("; held by {binder}, {hops} hops away, confirmed {age} before{cached}")
}

/// `cloak trace`
pub(crate) fn trace(trace: &TraceView) -> String {
    let mut table = Table::new([">HOP", "DEVICE", "ADDRESS"]);
    for (number, hop) in trace.hops.iter().enumerate() {
        let device = hop.name.clone().unwrap_or_else(|| hop.device.clone());
        table.row([number.to_string(), device, hop.address.clone()]);
    }
    let end = if trace.arrived { "arrived at" } else { "lost on the way to" };
    format!("{table}{end} {}\n", trace.to)
}

/// The state as it is written in JSON.
pub(super) fn state(state: SessionState) -> &'static str {
    match state {
        SessionState::Opening => "opening",
        SessionState::Live => "live",
        SessionState::Suspended => "suspended",
        SessionState::Held => "held",
        SessionState::Closing => "closing",
        SessionState::Lost => "lost",
        SessionState::Moved => "moved",
    }
}

fn listed<T, const N: usize>(rows: &[T], table: &Table<N>, none: &str) -> String {
    if rows.is_empty() { format!("{none}\n") } else { table.to_string() }
}
