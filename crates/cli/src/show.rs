//! What commands print for people: tables and short sentences on stdout.
//!
//! Only values that the control socket gave are shown, so a table and its `--json` never disagree.
//! Every form has a golden file in `show/golden`; `UPDATE_GOLDEN=1 cargo test -p cloak-cli` writes
//! them anew.

mod quantity;
mod record;
mod table;
mod tables;

pub(crate) use self::record::{
    attachable, drained, held, invitation, ping, reloaded, session, status,
};
pub(crate) use self::table::Table;
pub(crate) use self::tables::{
    entity_sessions, members, names, offers, peers, services, sessions, steps, trace,
};

#[cfg(test)]
mod tests;
