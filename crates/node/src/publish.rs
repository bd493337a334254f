//! What we say about ourselves and the realm: our record, and revocations.

use std::sync::Arc;
use std::time::Duration;

use cloak_base::{Epoch, Instant};
use cloak_identity::{
    Announcement, BindingError, Credentials, DeviceRecord, MembershipChain, Peer as Shown,
    Registrar, RevocationList, Signed,
};
use cloak_overlay::Place;
use cloak_wire::{Code, PeerFrame, Serials};

use crate::directory::{Learning, verify};
use crate::peer::{Peer, PeerCommand, Standing};
use crate::shared::Shared;
use crate::sync::{lock, read};

/// Revocation lists sent at a new link, at most.
const LISTS_AT_LINK_MAX: usize = 64;
/// Between two records by which a home answers that of a copy of it.
const OUTBID_EVERY: Duration = Duration::from_secs(5);
/// Kind of the warning that we have no record.
const RECORD_WARNING: &str = "record";

/// Foreign records of our own device, found and answered.
#[derive(Debug, Default)]
pub(crate) struct Outbidding {
    /// One was found and not answered.
    due: bool,
    /// When one was answered last.
    last: Option<Instant>,
}

impl Shared {
    /// Signs a new record of ourselves and passes it to every linked peer.
    pub(crate) fn publish(self: &Arc<Self>) {
        let (relays, is_relay) = self.relay_record();
        let said = Announcement {
            locators: self.locators.current(),
            ports: if self.is_draining() { Vec::new() } else { self.services.ports() },
            preference: self.preference(),
            epoch: Epoch(0),
            relays,
            is_relay,
            address: self.overlay_address(),
        };
        let made = self.directory.publish(&self.home, said, self.clock.wall());
        let sentence = made
            .as_ref()
            .err()
            .map(|error| format!("other devices cannot learn where this one is: {error}"));
        self.warn(RECORD_WARNING, sentence);
        self.overlay.moved();
        if let Ok(record) = made {
            self.unsaved.notify_one();
            let bytes = record.encode();
            self.overlay.publish_device(self.tls.device(), &record, &bytes);
            // Those that we are linked with hear of it at once.
            for peer in self.all_peers().into_iter().filter(|peer| peer.is_linked()) {
                let record = bytes.clone().into();
                peer.send(PeerFrame::Binding { record });
            }
        }
    }

    /// Ours among the devices of our entity: the lower, the sooner.
    pub(crate) fn preference(&self) -> u16 {
        u16::try_from(read(&self.config).device.preference).unwrap_or(u16::MAX)
    }

    /// Where messages for us find us in the overlay.
    fn overlay_address(&self) -> Option<Vec<u8>> {
        let address = match self.overlay.place() {
            Place::Inner { address, .. } => address,
            Place::Attached { hosts } => hosts.into_iter().next()?.1,
            Place::Seeking => return None,
        };
        Some(address.as_bytes().to_vec())
    }

    /// Whether our last record could not be made: our certificates do not count by the clock here.
    pub(crate) fn is_unpublished(&self) -> bool {
        lock(&self.warnings).contains_key(RECORD_WARNING)
    }

    /// Publishes anew where our hosts are others now, or we became a relay or no longer are one.
    pub(crate) fn check_relays(self: &Arc<Self>) {
        if self.relay_record() != self.directory.relays(self.tls.device()) {
            self.publish();
        }
    }

    /// Writes the known records to the store. Blocks on the disk.
    pub(crate) fn save_directory(&self) {
        let saved = self.directory.save(&self.home);
        self.storage_result(&saved);
    }

    /// Says that the disk fails, or works again.
    pub(crate) fn storage_result<T, E: std::fmt::Display>(&self, result: &Result<T, E>) {
        let sentence = result.as_ref().err().map(|error| {
            format!(
                "the home cannot be written ({error}); the gateway goes on serving: free some \
                     disk space, or restarts will not know what changed since"
            )
        });
        self.warn("storage", sentence);
    }

    /// Takes over the record that a peer shows of itself. Gives the reply: a newer one that it made
    /// elsewhere, so that it publishes above that, and its owner learns of a copy of its home.
    ///
    /// # Errors
    /// A record that nobody could have signed in good faith.
    pub(crate) fn learn_from(
        self: &Arc<Self>,
        peer: &Peer,
        record: &[u8],
    ) -> Result<Option<PeerFrame>, Code> {
        let signed = Signed::<DeviceRecord>::decode(record).map_err(|_| Code::Malformed)?;
        let device = cloak_base::DeviceId::from(signed.signer());
        if device == self.tls.device() {
            // It came to the peer over another channel, and this one leads to us as well.
            self.learn(record);
            return Ok(None);
        }
        if device != peer.device() {
            return Err(Code::FalseRecord);
        }
        self.learn(record);
        self.take_renewed(peer, signed.credentials());
        // The link is of use to the overlay as soon as it is known where the peer is.
        self.overlay.changed(peer.device());
        let newer = self.directory.record_of(device).filter(|held| held != record);
        Ok(newer.map(|record| PeerFrame::Binding { record: record.into() }))
    }

    /// A linked peer shows certificates that last longer: its link and its sessions go on.
    fn take_renewed(&self, peer: &Peer, credentials: &Credentials) {
        let Some(standing) = peer.standing() else { return };
        let version = self.home.version();
        let shown = verify(&self.home, credentials, peer.device(), self.clock.wall());
        if let Ok(Shown { expires, .. }) = shown
            && expires > standing.expires
        {
            let credentials = credentials.clone();
            peer.stand(Standing { credentials, version, expires }, self);
        }
    }

    /// Takes a record over that a peer showed or a lookup found.
    pub(crate) fn learn(self: &Arc<Self>, record: &[u8]) {
        let mut learning = self.directory.learn(&self.home, record, self.clock.wall());
        let is_taken = matches!(learning, Err(BindingError::NameTaken));
        if is_taken && self.note_name_of(record) {
            self.directory.sweep(&self.home, self.clock.wall());
            learning = self.directory.learn(&self.home, record, self.clock.wall());
        }
        match learning {
            Ok(Learning::Known(device)) => self.directory.note_met(device, self.clock.now()),
            Ok(Learning::News(learned)) => {
                self.note_name_of(record);
                self.directory.note_met(learned.device, self.clock.now());
                if let Some(peer) = self.known_peer(learned.device) {
                    peer.identify(learned.device_name, learned.entity_name, learned.entity);
                    if learned.moved {
                        peer.tell(PeerCommand::Rebound);
                    }
                }
                self.unsaved.notify_one();
                self.news.notify_waiters();
            }
            Ok(Learning::Stale) => {}
            Ok(Learning::Conflict(epoch)) => self.restored(epoch),
            // Revoked or expired since: whoever kept it may not know.
            Err(error) => tracing::debug!(%error, "a record does not count"),
        }
    }

    /// A record of this device is about that this home never made: the next one of ours goes above it.
    fn restored(self: &Arc<Self>, epoch: Epoch) {
        self.warn(
            "restored",
            Some(format!(
                "a record of this device with epoch {} was found that this home never made: the \
                 home was restored from a copy, or a copy of it runs elsewhere",
                epoch.0
            )),
        );
        self.directory.raise_epoch(epoch);
        lock(&self.outbidding).due = true;
        self.outbid();
    }

    /// Publishes above a foreign record of this device, where one was found, and not again before
    /// [`OUTBID_EVERY`] has passed: a copy of this home that runs elsewhere answers in the same way.
    pub(crate) fn outbid(self: &Arc<Self>) {
        let now = self.clock.now();
        {
            let mut outbidding = lock(&self.outbidding);
            let is_early = outbidding.last.is_some_and(|last| now.since(last) < OUTBID_EVERY);
            if !outbidding.due || is_early {
                return;
            }
            *outbidding = Outbidding { due: false, last: Some(now) };
        }
        self.publish();
    }

    /// Remembers the holder of a name by a record, where its credentials count; true when that was
    /// news.
    fn note_name_of(&self, record: &[u8]) -> bool {
        let Ok(record) = Signed::<DeviceRecord>::decode(record) else { return false };
        let (credentials, device) = (record.credentials(), record.signer().into());
        let counts = verify(&self.home, credentials, device, self.clock.wall()).is_ok();
        counts && self.note_name(credentials)
    }

    /// The serials of the revocation lists we hold: the realm's, and those of our own entity.
    pub(crate) fn serials(&self) -> Serials {
        self.serials_for(self.home.entity())
    }

    fn serials_for(&self, entity: cloak_base::EntityId) -> Serials {
        let trust = self.home.trust();
        Serials {
            realm: trust.revocations.realm_serial(),
            entity: trust.revocations.entity_serial(entity),
        }
    }

    /// Asks for what the peer knows of revocations and we do not. Its `entity` serial is that of
    /// its own entity.
    pub(crate) fn catch_up(&self, peer: &Peer, theirs: Serials) {
        let Some(entity) = peer.entity() else { return };
        let ours = self.serials_for(entity);
        if theirs.realm > ours.realm || theirs.entity != ours.entity {
            peer.send(PeerFrame::FetchRevocations(ours));
        }
    }

    /// Sends the realm's list where ours is newer, and the lists of our own entity.
    pub(crate) fn send_revocations(&self, peer: &Peer, theirs: Serials) {
        let trust = self.home.trust();
        let realm = trust.revocations.realm_list();
        let realm = realm.filter(|_| trust.revocations.realm_serial() > theirs.realm);
        let own = trust.revocations.entity_lists(self.home.entity());
        for list in realm.into_iter().chain(own) {
            let list = list.encode().into();
            peer.send(PeerFrame::Revocations { list });
        }
    }

    /// Merges a revocation list, passes it on when it is news, and ends what it ends.
    ///
    /// # Errors
    /// Something that is no list.
    pub(crate) fn adopt_revocations(self: &Arc<Self>, bytes: &[u8]) -> Result<(), Code> {
        let list = RevocationList::decode(bytes).map_err(|_| Code::Malformed)?;
        if self.is_known(&list) {
            return Ok(());
        }
        let now = self.clock.wall();
        let merged = self.home.change(|trust, _| {
            // A list that does not count changes nothing.
            Ok::<_, crate::store::StoreError>(
                trust.revocations.merge(list, &trust.realm.clone(), now).unwrap_or(false),
            )
        });
        self.storage_result(&merged);
        if merged.unwrap_or(false) {
            self.revocations_changed(bytes);
        }
        Ok(())
    }

    /// Whether we hold this very list: most that come have come before, by another way.
    fn is_known(&self, list: &RevocationList) -> bool {
        let trust = self.home.trust();
        match list {
            RevocationList::Realm(_) => trust.revocations.realm_list().as_ref() == Some(list),
            RevocationList::Entity(chain) => {
                let of = &chain.revocations;
                trust.revocations.entity_lists(of.entity).any(|known| known == *list)
            }
        }
    }

    /// Sends a newly linked peer every list we hold: it may have been away while they were made.
    pub(crate) fn revocation_lists(&self) -> Vec<Vec<u8>> {
        let trust = self.home.trust();
        trust.revocations.iter().take(LISTS_AT_LINK_MAX).map(|list| list.encode()).collect()
    }

    /// Passes a list on that is new here, and ends what it ends.
    pub(crate) fn revocations_changed(self: &Arc<Self>, bytes: &[u8]) {
        for peer in self.all_peers() {
            let list = bytes.to_vec().into();
            peer.send(PeerFrame::Revocations { list });
        }
        self.dismiss_revoked();
    }

    /// Ends the channels, lanes and sessions of every peer that may no longer be served: revoked, or
    /// its certificates ran out.
    pub(crate) fn dismiss_revoked(self: &Arc<Self>) {
        for peer in self.all_peers() {
            if peer.standing().is_none() || peer.dismissal().is_cancelled() {
                continue;
            }
            let Err(code) = self.standing(&peer) else { continue };
            for session in self.sessions.of(peer.device()) {
                session.close(code);
            }
            peer.dismiss(code);
        }
        self.directory.sweep(&self.home, self.clock.wall());
    }

    /// As a registrar, gives a linked peer a longer membership.
    pub(crate) fn renew(&self, peer: &Peer, membership: &[u8]) -> Result<Vec<u8>, Code> {
        let present = MembershipChain::decode(membership).map_err(|_| Code::Malformed)?;
        if peer.entity() != Some(present.membership.entity) {
            return Err(Code::Unauthenticated);
        }
        self.prolong(&present)
    }

    /// As a registrar, gives ourselves a longer membership: there may be no other registrar.
    pub(crate) fn renew_own(self: &Arc<Self>) {
        let present = self.home.trust().credentials.membership().clone();
        if let Ok(membership) = self.prolong(&present) {
            self.renewed(&membership);
        }
    }

    fn prolong(&self, present: &MembershipChain) -> Result<Vec<u8>, Code> {
        let now = self.clock.wall();
        let renewed = self.home.change(|trust, keys| {
            let delegation = trust.delegation.clone().ok_or(RenewError::NotARegistrar)?;
            let realm = trust.realm.clone();
            let registrar = Registrar::new(&realm, &keys.device, &delegation, now)
                .map_err(|_| RenewError::NotARegistrar)?;
            registrar
                .renew(now, present, &mut trust.roster, &trust.revocations)
                .map_err(|_| RenewError::Refused)
        });
        match renewed {
            Ok(chain) => Ok(chain.encode()),
            Err(RenewError::NotARegistrar | RenewError::Refused) => Err(Code::NotAllowed),
            Err(RenewError::Store(_)) => Err(Code::StorageFailed),
        }
    }

    /// Takes a renewed membership of ours over.
    pub(crate) fn renewed(self: &Arc<Self>, membership: &[u8]) {
        let Ok(chain) = MembershipChain::decode(membership) else { return };
        let now = self.clock.wall();
        let renewed = {
            let trust = self.home.trust();
            trust.credentials.renewed(&trust.realm, chain, &trust.revocations, now)
        };
        let Ok(credentials) = renewed else { return };
        if credentials.membership().expires() <= self.home.membership_expires() {
            return;
        }
        let adopted = self.home.adopt(credentials, now);
        self.storage_result(&adopted);
        self.publish();
    }
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("this device is no registrar")]
    NotARegistrar,
    #[error("the membership cannot be renewed")]
    Refused,
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}
