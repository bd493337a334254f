//! The exchange of `Hello`s that begins every transport, and the checks on what the peer shows.

use std::sync::Arc;

use cloak_base::DeviceId;
use cloak_identity::Credentials;
use cloak_transport::{Connection, HANDSHAKE_TIMEOUT, RecvError, UnexpectedData};
use cloak_wire::{Code, Frame, Hello, Nonce, Purpose, VERSION};

use crate::directory::{code, verify};
use crate::peer::{Peer, Standing};
use crate::shared::Shared;
use crate::store::StoreError;

impl Shared {
    /// Queues our `Hello` on a connection that we dialled. Gives our nonce of this connection.
    pub(crate) fn salute(&self, connection: &mut Connection, purpose: Purpose) -> Nonce {
        let nonce = Nonce(self.random_bytes::<32>().into());
        connection.queue(&Frame::Hello(Box::new(self.hello(connection, purpose, nonce))));
        nonce
    }

    /// Exchanges `Hello`s on a connection that we dialled, and verifies the peer's. Gives our nonce
    /// of this connection as well.
    pub(crate) async fn greet(
        self: &Arc<Self>,
        mut connection: Connection,
        purpose: Purpose,
    ) -> Result<(Connection, Hello, Nonce), Code> {
        let nonce = self.salute(&mut connection, purpose);
        let hello = tokio::time::timeout(HANDSHAKE_TIMEOUT, read_hello(&mut connection))
            .await
            .map_err(|_| Code::Timeout)??;
        self.check(connection.peer(), &hello)?;
        Ok((connection, hello, nonce))
    }

    /// Answers the `Hello` of a connection that we accepted, which has to come in time.
    pub(crate) async fn welcome(
        self: &Arc<Self>,
        connection: &mut Connection,
        until: tokio::time::Instant,
    ) -> Result<(Hello, Nonce), Code> {
        let nonce = Nonce(self.random_bytes::<32>().into());
        let hello = tokio::time::timeout_at(until, read_hello(connection))
            .await
            .map_err(|_| Code::Timeout)??;
        // Who is refused is told why instead of who we are.
        if hello.purpose != Purpose::Join
            && let Err(code) = self.check(connection.peer(), &hello)
        {
            connection.queue(&Frame::Close { code });
            return Err(code);
        }
        let ours = self.hello(connection, hello.purpose.clone(), nonce);
        connection.queue(&Frame::Hello(Box::new(ours)));
        Ok((hello, nonce))
    }

    fn hello(&self, connection: &Connection, purpose: Purpose, nonce: Nonce) -> Hello {
        let joining = purpose == Purpose::Join;
        Hello {
            version: VERSION,
            realm: self.home.realm_id(),
            credentials: if joining { Vec::new() } else { self.home.credentials() }.into(),
            serials: self.serials(),
            incarnation: self.incarnation,
            nonce,
            purpose,
            // The address of a host's hop is not the peer's.
            observed: connection.via().is_none().then(|| connection.peer_addr()),
            listening: self.locators.port(),
        }
    }

    /// Verifies what a peer shows; from here on its device stands for the entity it names.
    pub(crate) fn check(self: &Arc<Self>, device: DeviceId, hello: &Hello) -> Result<(), Code> {
        if hello.version != VERSION {
            return Err(Code::Version);
        }
        if hello.realm != self.home.realm_id() {
            return Err(Code::WrongRealm);
        }
        let credentials =
            Credentials::decode(&hello.credentials).map_err(|_| Code::Unauthenticated)?;
        let shown = verify(&self.home, &credentials, device, self.clock.wall())
            .map_err(|error| code(&error))?;
        self.adopt_authority(&credentials);
        self.note_name(&credentials);
        self.enrol(&credentials);
        self.note_sibling(&credentials);
        let peer = self.admit_peer(device)?;
        let names = (shown.device_name().to_string(), shown.entity_name.to_string());
        peer.identify(names.0, names.1, shown.entity);
        let (version, expires) = (self.home.version(), shown.expires);
        peer.stand(Standing { credentials, version, expires }, self);
        self.note_incarnation(&peer, hello.incarnation);
        self.catch_up(&peer, hello.serials);
        Ok(())
    }
}

impl Shared {
    /// Whether the peer may be served now: its certificates count still, whatever was revoked or
    /// ran out since it showed them.
    pub(crate) fn standing(&self, peer: &Peer) -> Result<(), Code> {
        let Some(standing) = peer.standing() else { return Err(Code::Unauthenticated) };
        let (version, now) = (self.home.version(), self.clock.wall());
        if standing.version == version && now <= standing.expires {
            return Ok(());
        }
        let Standing { credentials, .. } = standing;
        let shown =
            verify(&self.home, &credentials, peer.device(), now).map_err(|error| code(&error))?;
        peer.stand(Standing { credentials, version, expires: shown.expires }, self);
        Ok(())
    }

    /// Whether our own certificates count now: otherwise every peer refuses us.
    pub(crate) fn own_standing(&self) -> Result<(), Code> {
        let trust = self.home.trust();
        let (device, now) = (self.tls.device(), self.clock.wall());
        let shown = trust.credentials.verify(&trust.realm, device, &trust.revocations, now);
        shown.map(drop).map_err(|error| code(&error))
    }

    /// Remembers who holds a name by credentials that were verified: an older membership of that
    /// name, for another entity, counts no longer. True when that was news.
    pub(crate) fn note_name(&self, credentials: &Credentials) -> bool {
        let (membership, now) = (credentials.membership(), self.clock.wall());
        if !self.home.trust().revocations.holders().is_news(membership, now) {
            return false;
        }
        let noted = self.home.change(|trust, _| {
            Ok::<_, StoreError>(trust.revocations.holders_mut().note(membership, now))
        });
        self.storage_result(&noted);
        noted.is_ok()
    }

    /// As a registrar, enters a member that another registrar admitted, or one from before this
    /// device became one: its name is in use, and it can be revoked.
    fn enrol(&self, credentials: &Credentials) {
        let membership = credentials.membership();
        let (name, entity) = (&membership.membership.name, membership.membership.entity);
        {
            let trust = self.home.trust();
            let known = trust.roster.member(name).is_some_and(|member| member.entity == entity);
            if trust.delegation.is_none() || known {
                return;
            }
        }
        let now = self.clock.wall();
        let noted = self.home.change(|trust, _| {
            trust.roster.note_member(now, membership, &trust.revocations);
            Ok::<_, StoreError>(())
        });
        self.storage_result(&noted);
    }

    /// Enters a device of our own entity that another one admitted: a steward can revoke it.
    fn note_sibling(&self, credentials: &Credentials) {
        let certificate = &credentials.device().certificate;
        let known = {
            let trust = self.home.trust();
            let known = trust.roster.device(&certificate.label);
            known.is_some_and(|known| known.device == certificate.device)
        };
        if known || certificate.entity != self.home.entity() {
            return;
        }
        let now = self.clock.wall();
        let noted = self.home.change(|trust, _| {
            trust.roster.note_device(now, certificate, &trust.revocations);
            Ok::<_, StoreError>(())
        });
        self.storage_result(&noted);
    }

    /// Learns of a new authority from credentials that were verified.
    fn adopt_authority(&self, credentials: &Credentials) {
        let Some(change) = credentials.change() else { return };
        if self.home.trust().realm.change() == Some(change) {
            return;
        }
        let adopted = self.home.change(|trust, _| {
            let _ = trust.realm.adopt(change.clone());
            Ok::<_, StoreError>(())
        });
        self.storage_result(&adopted);
    }
}

/// Writes everything that is queued.
pub(crate) async fn flush(connection: &mut Connection) -> std::io::Result<()> {
    std::future::poll_fn(|cx| connection.poll_flush(cx)).await
}

/// Writes everything that is queued, then waits for a frame.
pub(crate) async fn receive(
    connection: &mut Connection,
) -> Result<Frame, RecvError<UnexpectedData>> {
    // A connection that cannot be written any more says so when it is read.
    let _ = flush(connection).await;
    connection.recv().await
}

/// Reads the first frame, which has to be a `Hello`.
async fn read_hello(connection: &mut Connection) -> Result<Hello, Code> {
    match receive(connection).await {
        Ok(Frame::Hello(hello)) => Ok(*hello),
        Ok(Frame::Close { code }) => Err(code),
        Ok(_) => Err(Code::Violation),
        Err(_) => Err(Code::PeerUnreachable),
    }
}
