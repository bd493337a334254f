//! Commands that ask the running gateway of the home, and show what it says.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::anyhow;
use cloak_gateway::control::message::{
    self, AttachAt, EntityBackup, GatewayStatus, Invitation, InvitationKind,
    Invite as InviteRequest, Move, Named, RealmBackup, Reloaded, ServiceName, SessionId, path,
};
use cloak_gateway::control::{Answer, Client, ClientError};
use cloak_node::{Home, ResolveStep};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::{
    Attach, Backup, DeviceCommand, Invite, MemberCommand, NameAndPort, RealmCommand,
    SessionsCommand,
};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::show;

/// Longest text that is read from stdin.
const STDIN_BYTES_MAX: u64 = 64 * 1024;

/// Asks one gateway, and prints its answers as a table or as JSON.
pub(crate) struct Asker {
    client: Client,
    json: bool,
}

impl Asker {
    /// Asks the gateway of `home`.
    pub(crate) fn new(home: &Path, json: bool) -> Self {
        Self { client: Client::new(&Home::control_socket(home)), json }
    }

    /// The client itself.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The process of the gateway.
    pub(crate) async fn status_pid(&self) -> Result<u32, Failure> {
        let status: GatewayStatus = self.client.get(path::STATUS).await?.read()?;
        Ok(status.node.pid)
    }

    pub(crate) async fn status(&self) -> Result<(), Failure> {
        self.show(path::STATUS, show::status).await
    }

    pub(crate) async fn peers(&self) -> Result<(), Failure> {
        self.show(path::PEERS, |rows: &Vec<_>| show::peers(rows)).await
    }

    pub(crate) async fn services(&self) -> Result<(), Failure> {
        self.show(path::SERVICES, |rows: &Vec<_>| show::services(rows)).await
    }

    pub(crate) async fn names(&self) -> Result<(), Failure> {
        self.show(path::NAMES, |rows: &Vec<_>| show::names(rows)).await
    }

    pub(crate) async fn entity_sessions(&self) -> Result<(), Failure> {
        self.show(path::ENTITY_SESSIONS, |rows: &Vec<_>| show::entity_sessions(rows)).await
    }

    pub(crate) async fn sessions(&self, command: Option<SessionsCommand>) -> Result<(), Failure> {
        match command {
            None | Some(SessionsCommand::List) => {
                self.show(path::SESSIONS, |rows: &Vec<_>| show::sessions(rows)).await
            }
            Some(SessionsCommand::Show { id }) => {
                let answer = self.client.post(path::SESSION_SHOW, &SessionId { id }).await?;
                self.print(&answer, show::session)
            }
            Some(SessionsCommand::Close { id }) => {
                let done = format!("session {id} is closed\n");
                self.act(path::SESSION_CLOSE, &SessionId { id }, done).await
            }
            Some(SessionsCommand::Move { id, to }) => {
                let done =
                    format!("session {id} is on {to} now; there: cloak sessions attach {id}\n");
                self.act(path::SESSION_MOVE, &Move { id, to }, done).await
            }
            Some(SessionsCommand::Offers) => {
                self.show(path::OFFERS, |rows: &Vec<_>| show::offers(rows)).await
            }
            Some(SessionsCommand::Accept { id }) => {
                let done =
                    format!("session {id} is here; go on with: cloak sessions attach {id}\n");
                self.act(path::OFFER_ACCEPT, &SessionId { id }, done).await
            }
            Some(SessionsCommand::Refuse { id }) => {
                let done = format!("session {id} is declined\n");
                self.act(path::OFFER_REFUSE, &SessionId { id }, done).await
            }
            Some(SessionsCommand::Suspend { id }) => {
                let done =
                    format!("session {id} is suspended; go on with: cloak sessions resume {id}\n");
                self.act(path::SESSION_SUSPEND, &SessionId { id }, done).await
            }
            Some(SessionsCommand::Resume { id }) => {
                let done = format!("session {id} goes on\n");
                self.act(path::SESSION_RESUME, &SessionId { id }, done).await
            }
            Some(SessionsCommand::Hold { id }) => {
                let done =
                    format!("session {id} is held; go on with: cloak sessions attach {id}\n");
                self.act(path::SESSION_HOLD, &SessionId { id }, done).await
            }
            Some(SessionsCommand::Attach(Attach { id, at, from })) => match at.listen()? {
                Some(listen) => {
                    let asked = AttachAt { id, listen, from };
                    let answer = self.client.post(path::SESSION_ATTACH_AT, &asked).await?;
                    self.print(&answer, show::attachable)
                }
                None => {
                    let asked = message::Attach { id, from };
                    let (stream, held) = connect::attach(&self.client, &asked).await?;
                    eprint!("cloak: session {}: {}", held.id, show::held(&held));
                    let copying = tokio::task::spawn_blocking(|| connect::copy(stream));
                    copying.await.map_err(anyhow::Error::from)?
                }
            },
        }
    }

    pub(crate) async fn device(&self, command: DeviceCommand) -> Result<(), Failure> {
        match command {
            DeviceCommand::Invite(ttl) => {
                let kind = InvitationKind::Device;
                let ttl_seconds = ttl.ttl.as_secs();
                self.ask_invitation(InviteRequest { kind, name: None, ttl_seconds }).await
            }
            DeviceCommand::List => {
                self.show(path::DEVICES, |rows: &Vec<_>| show::members(rows)).await
            }
            DeviceCommand::Steward { label } => {
                let done = format!("device {label} is a steward, from its next link on\n");
                self.act(path::DEVICE_STEWARD, &Named { name: label }, done).await
            }
            DeviceCommand::Backup(asked) => self.backup_entity(asked).await,
            DeviceCommand::Restore => {
                let backup = EntityBackup { backup: stdin_text()? };
                let done = "this device holds the entity's key again\n".to_owned();
                self.act(path::DEVICE_RESTORE, &backup, done).await
            }
            DeviceCommand::Revoke { label } => {
                let done = format!("device {label} is revoked\n");
                self.act(path::DEVICE_REVOKE, &Named { name: label }, done).await
            }
        }
    }

    /// The secret goes into a file of its own or down a pipe, never onto a screen unasked.
    async fn backup_entity(&self, asked: Backup) -> Result<(), Failure> {
        if asked.file.is_none() && !asked.show && std::io::stdout().is_terminal() {
            let why = "this would print a secret to the terminal: name a file, or add --show";
            return Err(Failure::new(Exit::Usage, anyhow!(why)));
        }
        let answer = self.client.post(path::DEVICE_BACKUP, &()).await?;
        let Some(file) = asked.file else {
            return self.print(&answer, |backup: &EntityBackup| backup.backup.clone());
        };
        let EntityBackup { backup } = answer.read()?;
        let mut options = OpenOptions::new();
        let written = options.write(true).create_new(true).mode(0o600).open(&file);
        written
            .and_then(|mut written| {
                written.write_all(backup.as_bytes())?;
                written.sync_all()
            })
            .map_err(|error| {
                let why = anyhow!("the backup cannot be written to {}: {error}", file.display());
                Failure::new(Exit::Failed, why)
            })
    }

    pub(crate) async fn member(&self, command: MemberCommand) -> Result<(), Failure> {
        match command {
            MemberCommand::List => {
                self.show(path::MEMBERS, |rows: &Vec<_>| show::members(rows)).await
            }
            MemberCommand::Revoke { name } => {
                let done = format!("member {name} is revoked\n");
                self.act(path::MEMBER_REVOKE, &Named { name }, done).await
            }
        }
    }

    pub(crate) async fn invite(&self, asked: Invite) -> Result<(), Failure> {
        self.ask_invitation(InviteRequest {
            kind: InvitationKind::Member,
            name: asked.name,
            ttl_seconds: asked.ttl.ttl.as_secs(),
        })
        .await
    }

    pub(crate) async fn realm(&self, command: RealmCommand) -> Result<(), Failure> {
        match command {
            RealmCommand::Backup => {
                let answer = self.client.post(path::REALM_BACKUP, &()).await?;
                self.print(&answer, |backup: &RealmBackup| format!("{}\n", backup.backup))
            }
            RealmCommand::Restore => {
                let backup = RealmBackup { backup: stdin_text()? };
                let done = "the realm's authority is restored on this device\n".to_owned();
                self.act(path::REALM_RESTORE, &backup, done).await
            }
        }
    }

    pub(crate) async fn resolve(&self, name: String) -> Result<(), Failure> {
        self.look_up(path::RESOLVE, ServiceName { name, port: None }).await
    }

    pub(crate) async fn ping(&self, name: String) -> Result<(), Failure> {
        let asked = ServiceName { name, port: None };
        self.print(&self.client.post(path::PING, &asked).await?, show::ping)
    }

    pub(crate) async fn trace(&self, name: String) -> Result<(), Failure> {
        let asked = ServiceName { name, port: None };
        self.print(&self.client.post(path::TRACE, &asked).await?, show::trace)
    }

    pub(crate) async fn why(&self, target: NameAndPort) -> Result<(), Failure> {
        let NameAndPort { name, port } = target;
        self.look_up(path::WHY, ServiceName { name, port }).await
    }

    pub(crate) async fn reload(&self) -> Result<(), Failure> {
        let answer = self.client.post(path::RELOAD, &()).await?;
        self.print(&answer, |reloaded: &Reloaded| show::reloaded(reloaded))
    }

    /// Shows the steps, then fails with the first that is not well.
    async fn look_up(&self, path: &'static str, asked: ServiceName) -> Result<(), Failure> {
        let answer = self.client.post(path, &asked).await?;
        self.print(&answer, |steps: &Vec<ResolveStep>| show::steps(steps))?;
        let steps: Vec<ResolveStep> = answer.read()?;
        match steps.into_iter().find(|step| !step.ok) {
            None => Ok(()),
            Some(failed) => {
                let exit = match failed.code.as_deref() {
                    Some("unknown-name" | "bad-name") => Exit::NotFound,
                    _ => Exit::Failed,
                };
                Err(Failure::new(exit, anyhow!("{}: {}", asked.name, failed.detail)))
            }
        }
    }

    async fn ask_invitation(&self, asked: InviteRequest) -> Result<(), Failure> {
        let answer = self.client.post(path::INVITE, &asked).await?;
        let invitation: Invitation = answer.read()?;
        if let Some(warning) = &invitation.warning {
            eprintln!("cloak: warning: {warning}");
        }
        self.print(&answer, show::invitation)
    }

    async fn show<T: DeserializeOwned>(
        &self,
        path: &'static str,
        render: impl Fn(&T) -> String,
    ) -> Result<(), Failure> {
        self.print(&self.client.get(path).await?, render)
    }

    async fn act(
        &self,
        path: &'static str,
        body: &impl Serialize,
        done: String,
    ) -> Result<(), Failure> {
        let answer = self.client.post(path, body).await?;
        self.print(&answer, |_: &serde_json::Value| done.clone())
    }

    /// Prints an answer, as text by `render` or as the JSON that it is.
    pub(crate) fn print<T: DeserializeOwned>(
        &self,
        answer: &Answer,
        render: impl Fn(&T) -> String,
    ) -> Result<(), Failure> {
        match self.json {
            true => print(answer.text())?,
            false => print(render(&answer.read()?))?,
        }
        Ok(())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::NotRunning => Exit::NotRunning,
            ClientError::Refused(refusal) => Exit::from_code(refusal.exit),
            ClientError::Socket { .. } | ClientError::Broken(_) => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// A secret that was not to stand on a command line.
///
/// # Errors
/// It cannot be read, or is not a text of at most 64 KiB.
pub(crate) fn stdin_text() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().lock().take(STDIN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}
