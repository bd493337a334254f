//! Names to devices, step by step: for opening a session, for `resolve`, and for `why`.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::DeviceId;
use cloak_identity::Name;
use cloak_transport::deadline;
use cloak_wire::Code;

use crate::api::{OpenRequest, Opener};
use crate::directory::{Candidate, Resolver, SmallRealm};
use crate::node::Node;
use crate::shared::Shared;
use crate::view::ResolveStep;

/// How long after the start a name that is not known may still come with the first links.
const JOINING: Duration = Duration::from_secs(3);
/// `why` waits this long for the service to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(12);

impl Shared {
    /// The devices to try for a port of a name, in order: those that expose it, the linked ones
    /// first among equals. Where none exposes it, the first is left to say so itself.
    pub(crate) async fn candidates(
        self: &Arc<Self>,
        name: &str,
        port: u16,
    ) -> Result<Vec<DeviceId>, Code> {
        let name = Name::parse(name).map_err(|_| Code::BadName)?;
        let mut found = self.resolve_while_joining(&name).await?;
        if found.iter().any(|candidate| candidate.ports.contains(&port)) {
            found.retain(|candidate| candidate.ports.contains(&port));
        }
        found.sort_by_key(|candidate| !self.is_reachable(candidate));
        Ok(found.into_iter().map(|candidate| candidate.device).collect())
    }

    /// Who starts a gateway and uses it at once shall not be told that a name is unknown before
    /// anybody could have told us of it.
    async fn resolve_while_joining(self: &Arc<Self>, name: &Name) -> Result<Vec<Candidate>, Code> {
        let resolver = SmallRealm { shared: Arc::downgrade(self) };
        let until = self.started_at + JOINING;
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            let found = resolver.resolve(name).await;
            if found != Err(Code::UnknownName) || self.clock.now() >= until {
                return found;
            }
            let _ = tokio::time::timeout_at(deadline(&*self.clock, until), news).await;
        }
    }

    fn is_reachable(&self, candidate: &Candidate) -> bool {
        candidate.device == self.tls.device()
            || self.peers.get(&candidate.device).is_some_and(|peer| peer.is_linked())
    }
}

fn ok(step: &str, detail: String) -> ResolveStep {
    ResolveStep { step: step.to_owned(), ok: true, detail, code: None }
}

fn bad(step: &str, detail: impl Into<String>, code: Code) -> ResolveStep {
    let code = Some(code.as_str().to_owned());
    ResolveStep { step: step.to_owned(), ok: false, detail: detail.into(), code }
}

impl Node {
    /// `cloak resolve`: name, entity, devices, each with its locators.
    pub async fn resolve(&self, name: &str) -> Vec<ResolveStep> {
        self.resolve_steps(name).await.0
    }

    async fn resolve_steps(&self, text: &str) -> (Vec<ResolveStep>, Vec<Candidate>) {
        let name = match Name::parse(text) {
            Ok(name) => name,
            Err(error) => {
                return (vec![bad("name", format!("{text} {error}"), Code::BadName)], Vec::new());
            }
        };
        let mut steps = vec![ok("name", format!("{name} is a valid name"))];
        let resolver = SmallRealm { shared: Arc::downgrade(&self.0) };
        let found = match resolver.resolve(&name).await {
            Ok(found) => found,
            Err(code) => {
                let known = self.0.directory.entity_of(name.entity_name()).is_some();
                let detail = if known {
                    format!("the entity is known, but it has no device {name}; see `cloak names`")
                } else {
                    format!(
                        "no linked device knows {name}; check the spelling with `cloak names`, and \
                         that its gateway is running and linked with `cloak peers`"
                    )
                };
                steps.push(bad(if known { "device" } else { "entity" }, detail, code));
                return (steps, Vec::new());
            }
        };
        steps.push(ok("entity", found[0].entity.to_string()));
        for candidate in &found {
            steps.push(ok("device", self.describe(candidate)));
        }
        (steps, found)
    }

    fn describe(&self, candidate: &Candidate) -> String {
        let locators: Vec<_> = candidate.locators.iter().map(ToString::to_string).collect();
        let ports: Vec<_> = candidate.ports.iter().map(ToString::to_string).collect();
        format!(
            "{} ({}) at {}{}, ports {}, epoch {}{}",
            candidate.name,
            candidate.device.fmt_short(),
            if locators.is_empty() { "no locator".to_owned() } else { locators.join(" ") },
            match candidate.relays.len() {
                0 => String::new(),
                relays => format!(", or through {relays} relays"),
            },
            if ports.is_empty() { "none".to_owned() } else { ports.join(" ") },
            candidate.epoch.0,
            if candidate.fresh { "" } else { ", not heard of lately" },
        )
    }

    /// `cloak why`: the steps of a connection, up to the first that fails.
    pub async fn why(&self, name: &str, port: Option<u16>) -> Vec<ResolveStep> {
        let (mut steps, found) = self.resolve_steps(name).await;
        let Some(first) = found.first() else { return steps };
        steps.push(self.path(first));
        let Some(port) = port.filter(|_| steps.iter().all(|step| step.ok)) else { return steps };
        let exposing = found.iter().find(|candidate| candidate.ports.contains(&port));
        steps.push(match exposing {
            Some(candidate) => ok("port", format!("{} exposes {port}", candidate.name)),
            None => {
                let detail = format!(
                    "no device of {name} exposes port {port}; add a [[service]] with that port there"
                );
                bad("port", detail, Code::NoService)
            }
        });
        if exposing.is_some() {
            steps.extend(self.try_service(name, port).await);
        }
        steps
    }

    fn path(&self, candidate: &Candidate) -> ResolveStep {
        if candidate.device == self.0.tls.device() {
            return ok("path", "this very device".to_owned());
        }
        let rows = self.peers();
        let device = candidate.device.to_string();
        match rows.into_iter().find(|row| row.device == device) {
            Some(row) if row.state == "linked" => ok(
                "path",
                match row.address {
                    Some(address) => format!("linked at {address}"),
                    None => "linked through a relay".to_owned(),
                },
            ),
            Some(row) => {
                let error = row.last_error.map_or(String::new(), |error| format!(" ({error})"));
                let tried = row.locators.join(" ");
                let detail = format!(
                    "{} since {}: no transport to {} could be opened{error}; is its gateway \
                     running, and its overlay port reachable at {tried}?",
                    row.state, row.state_since, row.name
                );
                bad("path", detail, Code::PeerUnreachable)
            }
            None => bad("path", "the device was never linked", Code::PeerUnreachable),
        }
    }

    /// Opens a session to the service, and drops it: what the responder says is the answer.
    async fn try_service(&self, name: &str, port: u16) -> Vec<ResolveStep> {
        let request =
            OpenRequest { name: name.to_owned(), port, application: "cloak why".to_owned() };
        let opened = tokio::time::timeout(PROBE_TIMEOUT, self.open(request)).await;
        let code = match opened {
            Ok(Ok(_)) => {
                return vec![
                    ok("authorisation", "the service admits this entity".to_owned()),
                    ok("backend", "the backend accepted a connection".to_owned()),
                ];
            }
            Ok(Err(code)) => code,
            Err(_) => Code::Timeout,
        };
        let denied = bad(
            "authorisation",
            format!("the service does not admit {}; its `allow` has to", self.0.home.entity_name()),
            Code::NotAllowed,
        );
        if code == Code::NotAllowed {
            return vec![denied];
        }
        let detail = format!("the service answered {code}; look at the backend over there");
        vec![
            ok("authorisation", "the service admits this entity".to_owned()),
            bad("backend", detail, code),
        ]
    }
}
