//! Names to devices, step by step: for opening a session, for `resolve`, and for `why`.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::DeviceId;
use cloak_identity::Name;
use cloak_wire::{Code, Early, Target};

use crate::api::{EXIT_PORT, OpenRequest, Opener};
use crate::directory::Candidate;
use crate::node::Node;
use crate::reach::millis;
use crate::resolve::{Answer, Resolution, Subject};
use crate::shared::Shared;
use crate::view::{ResolveStep, SessionState, SessionView};

/// Sessions of which `why` says each what it does.
const SESSIONS_SHOWN: usize = 8;
/// Digits of a session's id that are enough for people.
const ID_SHOWN: usize = 10;
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
        let mut found = self.resolve(&name).await?.devices;
        if found.iter().any(|candidate| candidate.ports.contains(&port)) {
            found.retain(|candidate| candidate.ports.contains(&port));
        }
        found.sort_by_key(|candidate| !self.is_reachable(candidate));
        Ok(found.into_iter().map(|candidate| candidate.device).collect())
    }

    pub(crate) fn is_reachable(&self, candidate: &Candidate) -> bool {
        candidate.device == self.tls.device()
            || self.peers.get(&candidate.device).is_some_and(|peer| peer.is_linked())
    }
}

/// A session that is not simply live, in a sentence.
fn session_step(row: &SessionView) -> ResolveStep {
    let id: String = row.id.chars().take(ID_SHOWN).collect();
    let until = row.expires.as_ref().map_or(String::new(), |at| format!(", lost at {at}"));
    let moving = row.moving.as_ref().map_or(String::new(), |moving| {
        let whose = if moving.side == "peer" { "the other end" } else { "our end" };
        format!("; {whose} is going to {} since {}", moving.to, moving.since)
    });
    let since = &row.state_since;
    let what = match row.state {
        SessionState::Suspended => format!("suspended since {since}{until}{moving}"),
        SessionState::Held if row.moving.is_none() && until.is_empty() => {
            format!("on its way to this device since {since}")
        }
        SessionState::Held if row.moving.is_none() => {
            format!("held for an application since {since}{until}: `cloak sessions attach {id}`")
        }
        SessionState::Moved => {
            format!("moved to {} at {since}", row.device.as_deref().unwrap_or("another device"))
        }
        SessionState::Lost => format!("lost at {since}"),
        SessionState::Opening => format!("opening since {since}"),
        SessionState::Closing => format!("closing since {since}"),
        SessionState::Live | SessionState::Held => format!("since {since}{moving}"),
    };
    let detail = format!("{id} to port {}: {what}", row.port);
    let fails = row.state == SessionState::Suspended;
    let code = row.reason.clone().filter(|_| fails || row.state == SessionState::Lost);
    ResolveStep { step: "session".to_owned(), ok: !fails, detail, code, ..ResolveStep::default() }
}

fn ok(step: &str, detail: String) -> ResolveStep {
    ResolveStep { step: step.to_owned(), ok: true, detail, ..ResolveStep::default() }
}

fn bad(step: &str, detail: impl Into<String>, code: Code) -> ResolveStep {
    let code = Some(code.as_str().to_owned());
    let (step, detail) = (step.to_owned(), detail.into());
    ResolveStep { step, detail, code, ..ResolveStep::default() }
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
        let Resolution { devices, answers } = match self.0.resolve(&name).await {
            Ok(resolution) => resolution,
            Err(code) => {
                let known = self.0.directory.entity_of(name.entity_name()).is_some();
                let detail = match (known, code) {
                    (true, _) => format!(
                        "the entity is known, but it has no device {name}; see `cloak names`"
                    ),
                    (false, Code::UnknownName) => format!(
                        "nobody published {name}; check the spelling, and that its gateway runs \
                         and `cloak status` there shows a place in the overlay"
                    ),
                    (false, _) => format!(
                        "the overlay did not answer for {name}; `cloak status` shows our place in \
                         it, `cloak peers` whom we reach"
                    ),
                };
                steps.push(bad(if known { "device" } else { "entity" }, detail, code));
                return (steps, Vec::new());
            }
        };
        let entity = devices[0].entity;
        let shown = answers.iter().find(|answer| answer.subject == Subject::Entity(entity));
        steps.push(self.shown_by(shown, ok("entity", entity.to_string())));
        for candidate in &devices {
            let shown =
                answers.iter().find(|answer| answer.subject == Subject::Device(candidate.device));
            steps.push(self.shown_by(shown, ok("device", self.describe(candidate))));
        }
        (steps, devices)
    }

    /// The step with the record that shows it, and whoever had that.
    fn shown_by(&self, answer: Option<&Answer>, step: ResolveStep) -> ResolveStep {
        let Some(answer) = answer else { return step };
        let name = |device| Some(self.0.directory.device(device)?.device_name);
        ResolveStep {
            binder: answer.binder.map(|binder| binder.to_string()),
            binder_name: answer.binder.and_then(name),
            hops: answer.binder.map(|_| answer.hops),
            age_ms: answer.binder.map(|_| millis(answer.age)),
            cached: answer.cached,
            ..step
        }
    }

    fn describe(&self, candidate: &Candidate) -> String {
        let locators: Vec<_> = candidate.locators.iter().map(ToString::to_string).collect();
        let shown = |port: &u16| match *port {
            EXIT_PORT => "exit".to_owned(),
            port => port.to_string(),
        };
        let ports: Vec<_> = candidate.ports.iter().map(shown).collect();
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

    /// `cloak why`: the steps of a connection, up to the first that fails; then what the sessions do that
    /// there are with this name.
    pub async fn why(&self, name: &str, port: Option<u16>) -> Vec<ResolveStep> {
        let (resolved, found) = self.resolve_steps(name).await;
        // Before the service is tried, which takes a session of its own.
        let sessions = self.session_steps(name, port, &found);
        let mut steps = self.connection_steps(name, port, resolved, &found).await;
        steps.extend(sessions);
        steps
    }

    async fn connection_steps(
        &self,
        name: &str,
        port: Option<u16>,
        mut steps: Vec<ResolveStep>,
        found: &[Candidate],
    ) -> Vec<ResolveStep> {
        let Some(first) = found.first() else { return steps };
        steps.push(self.path(first).await);
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

    /// What the sessions with a name do: one step for those in order, one for each other.
    fn session_steps(
        &self,
        name: &str,
        port: Option<u16>,
        found: &[Candidate],
    ) -> Vec<ResolveStep> {
        let mut rows = self.sessions();
        rows.retain(|row| {
            let is_with = |name: &str| {
                [&row.peer, &row.peer_device].iter().any(|known| known.eq_ignore_ascii_case(name))
            };
            port.is_none_or(|port| row.port == port)
                && (is_with(name) || found.iter().any(|one| is_with(&one.name)))
        });
        let is_plain = |row: &SessionView| row.state == SessionState::Live && row.moving.is_none();
        let (plain, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_plain);
        let mut steps = Vec::new();
        if !plain.is_empty() {
            steps.push(ok("session", format!("{} live", plain.len())));
        }
        // The newest tell most.
        steps.extend(others.iter().rev().take(SESSIONS_SHOWN).map(session_step));
        if let Some(more) = others.len().checked_sub(SESSIONS_SHOWN).filter(|more| *more > 0) {
            steps.push(ok("session", format!("{more} more; see `cloak sessions`")));
        }
        steps
    }

    async fn path(&self, candidate: &Candidate) -> ResolveStep {
        if candidate.device == self.0.tls.device() {
            return ok("path", "this very device".to_owned());
        }
        let rows = self.peers().await;
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
            // Nothing needed a link so far; what follows shows whether one comes up.
            None => ok("path", "no link yet; it is dialled when it is needed".to_owned()),
        }
    }

    /// Opens a session to the service, and drops it: what the responder says is the answer.
    async fn try_service(&self, name: &str, port: u16) -> Vec<ResolveStep> {
        let request = OpenRequest {
            name: name.to_owned(),
            target: Target::Service(port),
            application: "cloak why".to_owned(),
            early: Early::default(),
        };
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
