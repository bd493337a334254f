//! What we say about ourselves and the realm: our record, and revocations.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cloak_base::Epoch;
use cloak_identity::{
    Announcement, BindingError, DeviceRecord, MembershipChain, Registrar, RevocationList, Signed,
};
use cloak_wire::{Code, PeerFrame, Serials};

use crate::directory::{Learning, verify};
use crate::peer::{Peer, PeerCommand};
use crate::shared::Shared;
use crate::sync::{lock, read};

/// Revocation lists sent at a new link, at most.
const LISTS_AT_LINK_MAX: usize = 64;
/// Kind of the warning that we have no record.
const RECORD_WARNING: &str = "record";

impl Shared {
    /// Signs a new record of ourselves and passes it to every linked peer.
    pub(crate) fn publish(self: &Arc<Self>) {
        let preference = read(&self.config).device.preference;
        let (relays, is_relay) = self.relay_record();
        let said = Announcement {
            locators: self.locators.current(),
            ports: self.services.ports(),
            preference: u16::try_from(preference).unwrap_or(u16::MAX),
            epoch: Epoch(0),
            relays,
            is_relay,
        };
        let made = self.directory.publish(&self.home, said, self.clock.wall());
        let sentence = made
            .as_ref()
            .err()
            .map(|error| format!("other devices cannot learn where this one is: {error}"));
        self.warn(RECORD_WARNING, sentence);
        if let Ok(record) = made {
            self.unsaved.store(true, Ordering::Relaxed);
            self.gossip(&record, None);
        }
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

    /// Writes the known records to the store, if they changed. Blocks on the disk.
    pub(crate) fn save_directory(&self) {
        if self.unsaved.swap(false, Ordering::Relaxed) {
            let saved = self.directory.save(&self.home);
            self.storage_result(&saved);
        }
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

    /// Takes a binding over, and passes it on when it is news.
    ///
    /// # Errors
    /// A record that nobody could have signed in good faith.
    pub(crate) fn learn(
        self: &Arc<Self>,
        record: &[u8],
        from: Option<cloak_base::DeviceId>,
    ) -> Result<(), Code> {
        let mut learning = self.directory.learn(&self.home, record, self.clock.wall());
        let is_taken = matches!(learning, Err(BindingError::NameTaken));
        if is_taken && self.note_name_of(record) {
            self.directory.sweep(&self.home, self.clock.wall());
            learning = self.directory.learn(&self.home, record, self.clock.wall());
        }
        match learning {
            Ok(Learning::Known) => {}
            Ok(Learning::News(learned)) => {
                self.note_name_of(record);
                let peer = self.admit_peer(learned.device)?;
                peer.identify(learned.device_name, learned.entity_name, learned.entity);
                if learned.moved {
                    peer.tell(PeerCommand::Rebound);
                }
                self.unsaved.store(true, Ordering::Relaxed);
                self.news.notify_waiters();
                self.gossip(record, from);
            }
            Ok(Learning::Conflict(epoch)) => {
                self.warn(
                    "restored",
                    Some(format!(
                        "a record of this device with epoch {} was found that this home never \
                         made: the home was restored from a copy, or a copy of it runs elsewhere",
                        epoch.0
                    )),
                );
                self.publish();
            }
            Err(BindingError::Decode(_)) => return Err(Code::Malformed),
            // Revoked or expired since: whoever passed it on may not know.
            Err(error) => tracing::debug!(%error, "a record does not count"),
        }
        Ok(())
    }

    /// Remembers the holder of a name by a record, where its credentials count; true when that was
    /// news.
    fn note_name_of(&self, record: &[u8]) -> bool {
        let Ok(record) = Signed::<DeviceRecord>::decode(record) else { return false };
        let (credentials, device) = (record.credentials(), record.signer().into());
        let counts = verify(&self.home, credentials, device, self.clock.wall()).is_ok();
        counts && self.note_name(credentials)
    }

    /// Passes a record on to every linked peer but the one it came from.
    pub(crate) fn gossip(&self, record: &[u8], from: Option<cloak_base::DeviceId>) {
        for peer in self.all_peers() {
            if Some(peer.device()) != from && peer.is_linked() {
                peer.tell(PeerCommand::Send(PeerFrame::Binding { record: record.to_vec().into() }));
            }
        }
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
            peer.tell(PeerCommand::Send(PeerFrame::FetchRevocations(ours)));
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
            peer.tell(PeerCommand::Send(PeerFrame::Revocations { list }));
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
            peer.tell(PeerCommand::Send(PeerFrame::Revocations { list }));
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
