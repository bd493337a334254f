//! Invitations: redeemed at one end, granted at the other.
//!
//! One connection with `Purpose::Join` carries one request and one answer. The nonces of its
//! `Hello`s and both device keys go into the proof of the invitation's secret.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloak_base::{Incarnation, Rng};
use cloak_identity::{
    GrantError, Invitation, InvitationError, InvitationKind, Issuer, Joined, Label, RedeemRequest,
    Redemption, RedemptionError, Registrar, RosterError, SecretKey, TextError, Transcript,
    TransportEnd,
};
use cloak_transport::{
    Clock, Connection, Dialler, HANDSHAKE_TIMEOUT, RACE_STAGGER, SocketOptions, SystemClock, Tls,
    race,
};
use cloak_wire::{Code, Frame, Hello, Nonce, PeerFrame, Purpose, Serials, VERSION};

use crate::certificates::certifier;
use crate::hello::{flush, receive};
use crate::home::{Home, HomeError, Vacancy, label};
use crate::keys::Keys;
use crate::node::system_rng;
use crate::shared::Shared;
use crate::store::StoreError;
use crate::trust::Trust;

/// Time for the whole exchange once connected.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why an invitation was not redeemed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Not an invitation.
    #[error("this is not an invitation ({0}); copy the whole line that `cloak invite` printed")]
    Text(#[from] TextError),
    /// It cannot be redeemed as asked; nothing was sent.
    #[error(transparent)]
    Redemption(#[from] RedemptionError),
    /// The inviter could not be reached.
    #[error(
        "the device that made this invitation cannot be reached at {0}; is its gateway running \
         (`cloak up`), and is its overlay port open to this machine?"
    )]
    Unreachable(String),
    /// The inviter refused.
    #[error("the inviter refused: {}", explain(*.0))]
    Refused(Code),
    /// The inviter's answer does not count.
    #[error("the inviter's answer does not count: {0}")]
    Grant(#[from] GrantError),
}

fn explain(code: Code) -> String {
    let what = match code {
        Code::InvitationUnknown => "it knows no such invitation",
        Code::InvitationUsed => "the invitation was already used; ask for a new one",
        Code::InvitationExpired => "the invitation has expired; ask for a new one",
        Code::NameTaken => "the name is taken; choose another with --name",
        Code::NotAllowed => "it may not grant what the invitation promises",
        Code::WrongRealm => "the invitation belongs to another realm",
        Code::Version => "it speaks another version of the protocol; update both ends",
        _ => return format!("{code}"),
    };
    format!("{what} ({code})")
}

impl Home {
    /// Redeems an invitation of either kind and makes the home.
    ///
    /// # Errors
    /// A home that exists, an invitation that cannot be redeemed, an inviter that is not there.
    pub async fn join(
        dir: &Path,
        invitation: &str,
        name: Option<&str>,
        device: &str,
        clock: &dyn Clock,
    ) -> Result<Self, HomeError> {
        let invitation: Invitation = invitation.trim().parse().map_err(JoinError::Text)?;
        let device_label = label("the device's label", device)?;
        let strip = |name: &'_ str| name.strip_suffix(".cloak").unwrap_or(name).to_owned();
        let name = name.map(|name| label("the name", &strip(name))).transpose()?;
        let vacancy = Vacancy::claim(dir)?;
        let mut rng = system_rng().map_err(|_| HomeError::Random)?;
        let key = SecretKey::generate(&mut rng);
        let wish = Wished { invitation, name, device: device_label };
        let joined = redeem(&key, wish, &mut rng, clock).await?;
        let mut trust = Trust::new(joined.realm, joined.credentials);
        trust.revocations = joined.revocations;
        trust.note_own(clock.wall());
        let keys = Keys { device: key, entity: joined.entity, authority: None, recovery: None };
        let home = vacancy.settle(keys, trust)?;
        let bindings: Vec<minicbor::bytes::ByteVec> =
            joined.bindings.into_iter().map(Into::into).collect();
        let bindings =
            minicbor::to_vec(&bindings).expect("invariant: encoding into memory cannot fail");
        home.store().put(&[("bindings", &bindings)])?;
        Ok(home)
    }
}

struct Wished {
    invitation: Invitation,
    name: Option<Label>,
    device: Label,
}

async fn redeem(
    key: &SecretKey,
    wished: Wished,
    rng: &mut Rng,
    clock: &dyn Clock,
) -> Result<Joined, HomeError> {
    let Wished { invitation, name, device } = wished;
    let tls = Tls::new(key.seed()).map_err(|_| HomeError::Random)?;
    let locators = invitation.locators.clone();
    let shown = locators.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let unreachable = || JoinError::Unreachable(shown.clone());
    let dialler = Dialler::new(tls.clone(), SocketOptions::default(), Arc::new(SystemClock));
    let dialled = race(&locators, &dialler, Some(invitation.registrar), RACE_STAGGER);
    let mut connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, dialled)
        .await
        .map_err(|_| unreachable())?
        .map_err(|_| unreachable())?;
    let nonce = Nonce(rng.bytes::<32>().into());
    connection.queue(&Frame::Hello(Box::new(Hello {
        version: VERSION,
        realm: invitation.realm,
        credentials: Vec::new().into(),
        serials: Serials::default(),
        incarnation: Incarnation { counter: 0, random: 0 },
        nonce,
        purpose: Purpose::Join,
        observed: None,
        listening: None,
    })));
    let exchange = async {
        let hello = match receive(&mut connection).await {
            Ok(Frame::Hello(hello)) => hello,
            Ok(Frame::Close { code }) => return Err(JoinError::Refused(code).into()),
            _ => return Err(HomeError::Join(unreachable())),
        };
        let transcript = Transcript {
            dialler: end(tls.device(), nonce),
            acceptor: end(connection.peer(), hello.nonce),
        };
        let entity = SecretKey::generate(rng);
        let now = clock.wall();
        let redemption = Redemption::new(invitation, &transcript, entity, name, device, now)
            .map_err(JoinError::Redemption)?;
        let request = redemption.request().encode().into();
        let sent = connection.send(&Frame::Peer(PeerFrame::Redeem { request })).await;
        sent.map_err(|_| unreachable())?;
        match connection.recv().await {
            Ok(Frame::Peer(PeerFrame::Redeemed { grant })) => {
                Ok(redemption.finish(&grant, now).map_err(JoinError::Grant)?)
            }
            Ok(Frame::Peer(PeerFrame::Refused { code }) | Frame::Close { code }) => {
                Err(JoinError::Refused(code).into())
            }
            _ => Err(HomeError::Join(unreachable())),
        }
    };
    tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await.map_err(|_| unreachable())?
}

fn end(device: cloak_base::DeviceId, nonce: Nonce) -> TransportEnd {
    TransportEnd { device, nonce: *nonce.0 }
}

impl Shared {
    /// Serves a connection that redeems an invitation: one request, one answer.
    pub(crate) async fn redeem(
        self: &Arc<Self>,
        connection: &mut Connection,
        hello: &Hello,
        nonce: Nonce,
    ) {
        let transcript = Transcript {
            dialler: end(connection.peer(), hello.nonce),
            acceptor: end(self.tls.device(), nonce),
        };
        let received = tokio::time::timeout(EXCHANGE_TIMEOUT, receive(connection)).await;
        let answer = match received {
            Ok(Ok(Frame::Peer(PeerFrame::Redeem { request }))) => {
                match self.grant(&request, transcript).await {
                    Ok(grant) => PeerFrame::Redeemed { grant: grant.into() },
                    Err(code) => PeerFrame::Refused { code },
                }
            }
            _ => return,
        };
        connection.queue(&Frame::Peer(answer));
        let _ = tokio::time::timeout(EXCHANGE_TIMEOUT, flush(connection)).await;
    }

    /// Redeems: the invitation is durably marked as used before anyone hears of it.
    async fn grant(
        self: &Arc<Self>,
        request: &[u8],
        transcript: Transcript,
    ) -> Result<Vec<u8>, Code> {
        let request = RedeemRequest::decode(request).map_err(|_| Code::Malformed)?;
        let shared = Arc::clone(self);
        let granted = self.tasks.spawn_blocking(move || {
            let now = shared.clock.wall();
            shared.home.change(|trust, keys| grant(trust, keys, now, &request, &transcript))
        });
        let mut grant = granted.await.map_err(|_| Code::ShuttingDown)?.map_err(|error| {
            tracing::debug!(%error, "an invitation was not redeemed");
            error.code()
        })?;
        tracing::info!(name = %grant.membership().membership.name.as_str(), "an invitation was redeemed");
        for record in self.directory.records() {
            if !grant.add_binding(&record) {
                break;
            }
        }
        Ok(grant.encode())
    }
}

#[derive(Debug, thiserror::Error)]
enum RefusedGrant {
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RefusedGrant {
    fn code(&self) -> Code {
        match self {
            Self::Invitation(InvitationError::Unknown | InvitationError::WrongProof) => {
                Code::InvitationUnknown
            }
            Self::Invitation(InvitationError::Used) => Code::InvitationUsed,
            Self::Invitation(InvitationError::Expired { .. }) => Code::InvitationExpired,
            Self::Invitation(
                InvitationError::NameFixed
                | InvitationError::Roster(RosterError::NameTaken | RosterError::LabelTaken),
            ) => Code::NameTaken,
            Self::Invitation(_) => Code::NotAllowed,
            Self::Store(_) => Code::StorageFailed,
        }
    }
}

fn grant(
    trust: &mut Trust,
    keys: &Keys,
    now: cloak_base::UnixTime,
    request: &RedeemRequest,
    transcript: &Transcript,
) -> Result<cloak_identity::Grant, RefusedGrant> {
    let Trust { realm, credentials, delegation, steward, revocations, roster, invitations, .. } =
        trust;
    let registrar = delegation
        .as_ref()
        .and_then(|delegation| Registrar::new(realm, &keys.device, delegation, now).ok());
    let certifier = certifier(realm.id(), keys, steward.as_ref(), now);
    let mut issuer = Issuer {
        realm,
        registrar,
        certifier,
        membership: credentials.membership(),
        roster,
        revocations,
    };
    Ok(invitations.redeem(now, request, transcript, &mut issuer)?)
}

/// The kinds of invitation, for the control surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteKind {
    /// A new member of the realm.
    Member,
    /// A further device of our entity.
    Device,
}

impl From<InviteKind> for InvitationKind {
    fn from(kind: InviteKind) -> Self {
        match kind {
            InviteKind::Member => Self::Member,
            InviteKind::Device => Self::Device,
        }
    }
}
