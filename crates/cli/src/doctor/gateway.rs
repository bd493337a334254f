//! The running gateway: what it says of itself.

use std::path::Path;

use cloak_gateway::control::message::{GatewayStatus, path};
use cloak_gateway::control::{Client, ClientError};
use cloak_node::{Home, LocatorView};

use super::Finding;

pub(super) async fn check(home: &Path) -> Vec<Finding> {
    match ask(home).await {
        Ok(status) => judge(&status),
        Err(ClientError::NotRunning) => {
            vec![Finding::warn("gateway", "it is not running", "start it: `cloak up`")]
        }
        Err(error) => {
            vec![Finding::fail("gateway", error.to_string(), "stop it and start it again")]
        }
    }
}

async fn ask(home: &Path) -> Result<GatewayStatus, ClientError> {
    Client::new(&Home::control_socket(home)).get(path::STATUS).await?.read()
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

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

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
