//! The running gateway: what it says of itself.

use std::path::Path;

use cloak_base::UnixTime;
use cloak_gateway::control::message::{GatewayStatus, path};
use cloak_gateway::control::{Client, ClientError};
use cloak_identity::{CLOCK_TOLERANCE, DEVICE_RECORD_LIFE};
use cloak_node::{Home, LocatorView, NameView, PeerView};
use cloak_transport::{Clock, SystemClock};

use super::Finding;

pub(super) async fn check(home: &Path) -> Vec<Finding> {
    match ask(home).await {
        Ok(answers) => {
            let mut findings = judge(&answers.status);
            findings.push(skew(&answers.of_linked_devices(), SystemClock.wall()));
            findings
        }
        Err(ClientError::NotRunning) => {
            vec![Finding::warn("gateway", "it is not running", "start it: `cloak up`")]
        }
        Err(error) => {
            vec![Finding::fail("gateway", error.to_string(), "stop it and start it again")]
        }
    }
}

/// What the gateway says of itself and of others.
struct Answers {
    status: GatewayStatus,
    peers: Vec<PeerView>,
    names: Vec<NameView>,
}

impl Answers {
    /// Names of devices that answer at the moment, and when their records expire.
    fn of_linked_devices(&self) -> Vec<(&str, &str)> {
        let is_linked =
            |name: &str| self.peers.iter().any(|peer| peer.name == name && peer.state == "linked");
        let devices = self.names.iter().filter(|row| row.kind == "device" && is_linked(&row.name));
        devices.filter_map(|row| Some((row.name.as_str(), row.expires.as_deref()?))).collect()
    }
}

async fn ask(home: &Path) -> Result<Answers, ClientError> {
    let client = Client::new(&Home::control_socket(home));
    Ok(Answers {
        status: client.get(path::STATUS).await?.read()?,
        peers: client.get(path::PEERS).await?.read()?,
        names: client.get(path::NAMES).await?.read()?,
    })
}

fn judge(status: &GatewayStatus) -> Vec<Finding> {
    let node = &status.node;
    let mut findings = vec![version(&node.version), overlay(&node.overlay, node.peers_known)];
    findings.push(locators(&node.locators));
    findings.extend(node.warnings.iter().map(|warning| {
        Finding::warn("gateway", warning.clone(), "see docs/guide/operations.md, Warnings")
    }));
    findings
}

fn version(running: &str) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    match running == own {
        true => Finding::ok("gateway", format!("running, version {running}")),
        false => Finding::warn(
            "gateway",
            format!("version {running} is running, this command is {own}"),
            "restart the gateway",
        ),
    }
}

fn overlay(state: &str, known: u64) -> Finding {
    match state {
        "linked" => Finding::ok("overlay", "linked with the realm"),
        "alone" => Finding::ok("overlay", "this is the only device of the realm so far"),
        _ => Finding::warn(
            "overlay",
            format!("none of {known} known devices can be reached"),
            "`cloak peers` shows why for each; check this machine's network, and that one of the \
             others is up",
        ),
    }
}

fn locators(locators: &[LocatorView]) -> Finding {
    let confirmed: Vec<_> = locators.iter().filter(|locator| locator.confirmed).collect();
    match confirmed.first() {
        Some(locator) => {
            Finding::ok("locators", format!("a peer has reached us at {}", locator.address))
        }
        None => Finding::warn(
            "locators",
            "no peer has reached this device yet, so maybe none from outside can",
            "a realm needs one reachable device: forward a port to it and start it with \
             `cloak up --advertise ADDRESS:PORT`; others then need nothing",
        ),
    }
}

/// A device dates its record by its own clock, and lets it live for an hour. One that lives longer
/// than that from now on was made by a clock ahead of ours; one that is over, by one behind.
fn skew(linked: &[(&str, &str)], now: UnixTime) -> Finding {
    // Times in RFC 3339 and UTC are ordered as their texts are.
    let latest = (now + DEVICE_RECORD_LIFE + CLOCK_TOLERANCE).to_string();
    let earliest = UnixTime(now.0.saturating_sub(CLOCK_TOLERANCE.as_secs())).to_string();
    let direction = |expires: &str| match expires {
        _ if expires > latest.as_str() => Some("ahead of"),
        _ if expires < earliest.as_str() => Some("behind"),
        _ => None,
    };
    let differing = linked.iter().find_map(|(name, expires)| Some((name, direction(expires)?)));
    match differing {
        Some((name, direction)) => Finding::warn(
            "peer clocks",
            format!("the clock of {name} is {direction} ours"),
            "set the clocks of both: `timedatectl set-ntp true`",
        ),
        None => Finding::ok("peer clocks", "no linked device's clock disagrees with ours"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn clocks_that_disagree_are_found() {
        let now = UnixTime(1_795_000_000);
        let found =
            |expires: UnixTime| skew(&[("desk.bob.cloak", &expires.to_string())], now).level;
        assert_eq!(found(now + DEVICE_RECORD_LIFE), Level::Ok);
        assert_eq!(found(now + DEVICE_RECORD_LIFE * 2), Level::Warn);
        assert_eq!(found(UnixTime(now.0 - 10)), Level::Ok);
        assert_eq!(found(UnixTime(now.0 - 1_000)), Level::Warn);
    }

    #[test]
    fn states_of_a_gateway_are_judged() {
        assert_eq!(version(env!("CARGO_PKG_VERSION")).level, Level::Ok);
        assert_eq!(version("0.0.1").level, Level::Warn);
        for (state, level) in
            [("linked", Level::Ok), ("alone", Level::Ok), ("searching", Level::Warn)]
        {
            assert_eq!(overlay(state, 3).level, level, "{state}");
        }
        let mut locator = LocatorView {
            address: "192.0.2.1:7140".to_owned(),
            source: "interface".to_owned(),
            confirmed: false,
        };
        assert_eq!(locators(std::slice::from_ref(&locator)).level, Level::Warn);
        locator.confirmed = true;
        assert_eq!(locators(&[locator]).level, Level::Ok);
    }
}
