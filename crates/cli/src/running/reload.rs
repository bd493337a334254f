//! Reloading: the file is read again, and what changed is applied. No session is cut.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cloak_gateway::control::Reload;
use cloak_gateway::control::message::{Refusal, Reloaded};
use cloak_gateway::{ProxyHandle, Services};
use cloak_node::{BoxFuture, Node, NodeConfig};
use tokio::sync::Mutex;

use crate::args::Up;
use crate::settings::Settings;

/// Where settings come from and where they go.
pub(super) struct Reloader {
    pub(super) file: PathBuf,
    pub(super) flags: Up,
    pub(super) node: Node,
    pub(super) proxy: ProxyHandle,
    pub(super) services: Arc<Services>,
    /// What is in force; held while a reload is under way, so that there is one at a time.
    pub(super) current: Mutex<Settings>,
}

impl Reloader {
    /// Applies what the file says now.
    ///
    /// # Errors
    /// The file has a mistake; nothing was changed.
    pub(super) async fn apply(&self) -> Result<Reloaded, Refusal> {
        let mut current = self.current.lock().await;
        let next = Settings::load(&self.file, &self.flags).map_err(|error| {
            Refusal::usage("bad-configuration", format!("{:#}", anyhow::Error::from(error)))
        })?;
        let proxy = self.proxy.reload(&next.proxy, &next.outbound, &next.aliases).await;
        let proxy = proxy.map_err(|error| Refusal::usage("bad-configuration", error))?;
        let mut changed: Vec<_> = proxy.changed.iter().map(ToString::to_string).collect();
        let offers = keys(&[
            ("service", next.services != current.services),
            ("exit", next.exit != current.exit),
        ]);
        if !offers.is_empty() {
            self.services
                .reload(&next.services, &next.exit)
                .map_err(|error| Refusal::usage("bad-configuration", error))?;
            changed.extend(offers.iter().map(ToString::to_string));
        }
        let node_changed = changed_in_node(&current.node, &next.node);
        if !offers.is_empty() || !node_changed.is_empty() {
            self.node.reload(next.node.clone());
        }
        changed.extend(node_changed.iter().map(ToString::to_string));
        let restart_needed = needs_restart(&current, &next);
        // What needs a restart stays what it was, so that the next reload says it again.
        let (mut overlay, memory) = (current.node.overlay.clone(), current.node.memory.clone());
        overlay.advertise = next.node.overlay.advertise.clone();
        let log = current.log.clone();
        *current = next;
        (current.node.overlay, current.node.memory, current.log) = (overlay, memory, log);
        Ok(Reloaded { changed, restart_needed })
    }
}

impl Reload for Reloader {
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Refusal>> {
        Box::pin(self.apply())
    }

    fn aliases(&self) -> BoxFuture<'_, BTreeMap<String, String>> {
        Box::pin(async { self.current.lock().await.aliases.clone() })
    }
}

fn changed_in_node(old: &NodeConfig, new: &NodeConfig) -> Vec<&'static str> {
    keys(&[
        ("overlay.advertise", old.overlay.advertise != new.overlay.advertise),
        ("session", old.session != new.session),
        ("device", old.device != new.device),
    ])
}

fn needs_restart(old: &Settings, new: &Settings) -> Vec<String> {
    let mut overlay = old.node.overlay.clone();
    overlay.advertise = new.node.overlay.advertise.clone();
    let differing = keys(&[
        ("overlay", overlay != new.node.overlay),
        ("memory", old.node.memory != new.node.memory),
        ("log", old.log != new.log),
    ]);
    differing.iter().map(ToString::to_string).collect()
}

fn keys(differs: &[(&'static str, bool)]) -> Vec<&'static str> {
    differs.iter().filter_map(|(key, differs)| differs.then_some(*key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_while_running_is_said() {
        let old = Settings::default();
        let mut new = old.clone();
        assert!(needs_restart(&old, &new).is_empty());
        new.node.overlay.lan = !new.node.overlay.lan;
        new.log.level = "debug".to_owned();
        assert_eq!(needs_restart(&old, &new), ["overlay", "log"]);
        new.node.device.preference = 7;
        new.node.overlay.advertise.push(std::net::SocketAddr::from(([192, 0, 2, 1], 7140)));
        assert_eq!(changed_in_node(&old.node, &new.node), ["overlay.advertise", "device"]);
        assert_eq!(needs_restart(&old, &new), ["overlay", "log"]);
    }
}
