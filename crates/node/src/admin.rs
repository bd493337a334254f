//! What the owner of a device does to the realm through it: invite, list, revoke, back up.

use std::time::Duration;

use cloak_identity::{
    Authority, Certifier, Label, NameLimits, Offer, RevocationError, Rights, STEWARDS_MAX,
    SecretKey,
};

use crate::certificates::certifier;
use crate::join::InviteKind;
use crate::keys::Keys;
use crate::node::{ControlError, Node, system_rng};
use crate::store::StoreError;
use crate::view::MemberView;

/// Asks for an invitation.
#[derive(Debug, Clone)]
pub struct InviteRequest {
    /// What it is for.
    pub kind: InviteKind,
    /// The new member's name, or none to leave it to them.
    pub name: Option<String>,
    /// How long it can be redeemed.
    pub ttl: Duration,
}

/// An invitation, to be handed to one person.
#[derive(Debug, Clone)]
pub struct InviteReply {
    /// The line to hand over. Whoever has it can redeem it.
    pub invitation: String,
    /// When it expires.
    pub expires: String,
    /// Why it may not work from outside.
    pub warning: Option<String>,
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        Self::Failed(format!("nothing was changed, because the home cannot be written: {error}"))
    }
}

fn failed(error: impl std::fmt::Display) -> ControlError {
    ControlError::Failed(error.to_string())
}

impl Node {
    /// Makes an invitation, durably, before it is shown.
    ///
    /// # Errors
    /// This device may not invite, the name cannot be used, or the store fails.
    pub async fn invite(&self, request: InviteRequest) -> Result<InviteReply, ControlError> {
        let shared = &self.0;
        let now = shared.clock.wall();
        let expires = now + request.ttl;
        let name = request.name.as_deref().map(parse_label).transpose()?;
        let mut rng = system_rng().map_err(failed)?;
        let device = shared.tls.device();
        let mut invitation = shared.home.change(|trust, keys| {
            match request.kind {
                InviteKind::Member if trust.delegation.is_none() => {
                    return Err(failed(
                        "this device is no registrar of the realm, so it cannot \
                                       invite members; ask on the device that founded the realm",
                    ));
                }
                InviteKind::Device
                    if certifier(trust.realm.id(), keys, trust.steward.as_ref(), now).is_none() =>
                {
                    return Err(failed(
                        "this device neither holds its entity's key nor is a steward, so it \
                                       cannot invite devices; ask on the entity's first device",
                    ));
                }
                _ => {}
            }
            let offer = Offer { kind: request.kind.into(), name: name.clone(), expires };
            trust.invitations.issue(&mut rng, now, &trust.realm, device, offer).map_err(failed)
        })?;
        invitation.locators = shared.locators.current();
        invitation.locators.truncate(cloak_identity::INVITATION_LOCATORS_MAX);
        let warning = match (invitation.locators.is_empty(), shared.locators.is_confirmed()) {
            (true, _) => Some(
                "this device knows no address at which it can be reached; set \
                               [overlay] advertise or --advertise, then invite again",
            ),
            (_, true) => None,
            (_, false) => Some(
                "no other device has confirmed that this one can be reached from \
                                outside; if joining fails, open the overlay port or set --advertise",
            ),
        };
        Ok(InviteReply {
            invitation: invitation.to_text().to_string(),
            expires: expires.to_string(),
            warning: warning.map(str::to_owned),
        })
    }

    /// Members of the realm, as this device knows them.
    pub fn members(&self) -> Vec<MemberView> {
        let trust = self.0.home.trust();
        let row = |(name, member): (&Label, &cloak_identity::Member)| MemberView {
            name: format!("{}.cloak", name.as_str()),
            id: member.entity.to_string(),
            expires: member.expires.to_string(),
            revoked: trust.revocations.is_revoked(member.entity),
        };
        trust.roster.members().map(row).collect()
    }

    /// Devices of our own entity, as this device knows them.
    pub fn devices(&self) -> Vec<MemberView> {
        let trust = self.0.home.trust();
        let (entity, name) = (self.0.home.entity(), trust.entity_name());
        let row = |(label, held): (&Label, &cloak_identity::EntityDevice)| MemberView {
            name: format!("{}.{name}", label.as_str()),
            id: held.device.to_string(),
            expires: held.expires.to_string(),
            revoked: trust.revocations.is_device_revoked(entity, held.device),
        };
        trust.roster.devices().map(row).collect()
    }

    /// Ends a member's membership; its sessions with every reachable device end.
    ///
    /// # Errors
    /// No such member, or this device does not hold the authority's key.
    pub async fn revoke_member(&self, name: &str) -> Result<(), ControlError> {
        let name = parse_label(name)?;
        let list = self.0.home.change(|trust, keys| {
            let entity = trust.roster.member(&name).map(|member| member.entity);
            let entity = entity.ok_or_else(|| unknown("member", &name))?;
            if entity == trust.credentials.membership().membership.entity {
                return Err(failed("that is this device's own entity"));
            }
            let key = keys.authority.as_ref().ok_or_else(|| {
                failed(
                    "this device does not hold the realm authority's key; revoke members on \
                        the device that founded the realm",
                )
            })?;
            let realm = trust.realm.clone();
            let authority = Authority::new(&realm, key).map_err(failed)?;
            let list = authority.revoke_member(&mut trust.revocations, entity);
            list.map_err(|error: RevocationError| failed(error))
        })?;
        self.0.revocations_changed(&list.encode());
        Ok(())
    }

    /// Ends a device of our own entity.
    ///
    /// # Errors
    /// No such device, or this one does not hold the entity's key.
    pub async fn revoke_device(&self, label: &str) -> Result<(), ControlError> {
        let label = parse_label(label)?;
        let now = self.0.clock.wall();
        let own = self.0.tls.device();
        let list = self.0.home.change(|trust, keys| {
            let device = trust.roster.device(&label).map(|held| held.device);
            let device = device.ok_or_else(|| unknown("device", &label))?;
            if device == own {
                return Err(failed("that is this very device"));
            }
            let realm = trust.realm.clone();
            let steward = trust.steward.clone();
            let certifier =
                certifier(realm.id(), keys, steward.as_ref(), now).ok_or_else(|| {
                    failed(
                        "this device neither holds its entity's key nor is a steward; revoke \
                            devices on the entity's first device",
                    )
                })?;
            trust.stewards.retain(|steward| steward.device != device);
            let list = trust.revocations.revoke_device(&certifier, &realm, now, device);
            list.map_err(|error: RevocationError| failed(error))
        })?;
        self.0.revocations_changed(&list.encode());
        Ok(())
    }

    /// Makes another device of our entity a steward, which may then invite and revoke devices too.
    /// It hears of it over its next link.
    ///
    /// # Errors
    /// No such device, it was revoked, or this one does not hold the entity's key.
    pub async fn appoint_steward(&self, label: &str) -> Result<(), ControlError> {
        let label = parse_label(label)?;
        let (now, own) = (self.0.clock.wall(), self.0.tls.device());
        let device = self.0.home.change(|trust, keys| {
            let device = trust.roster.device(&label).map(|held| held.device);
            let device = device.ok_or_else(|| unknown("device", &label))?;
            let key = keys.entity.as_ref().ok_or_else(|| {
                failed(
                    "this device does not hold its entity's key; appoint stewards on the \
                        entity's first device",
                )
            })?;
            if device == own {
                return Err(failed("this very device holds the entity's key"));
            }
            if trust.revocations.is_device_revoked(key.entity_id(), device) {
                return Err(failed("that device was revoked"));
            }
            trust.stewards.retain(|steward| steward.device != device);
            if trust.stewards.len() >= STEWARDS_MAX {
                return Err(failed(format!("an entity has at most {STEWARDS_MAX} stewards")));
            }
            let certifier = Certifier::entity(trust.realm.id(), key);
            trust.stewards.push(certifier.appoint(now, device));
            Ok(device)
        })?;
        self.0.send_appointment(&self.0.peer(device));
        Ok(())
    }

    /// The entity's key as text, to be kept offline.
    ///
    /// # Errors
    /// This device does not hold it.
    pub fn entity_backup(&self) -> Result<String, ControlError> {
        let home = &self.0.home;
        let keys = home.keys();
        let Some(entity) = &keys.entity else {
            return Err(failed(
                "this device does not hold its entity's key; back up on the entity's first device",
            ));
        };
        Ok(format!(
            "# The key of {}. Whoever has it can be that entity: keep it offline.\nentity {}\n",
            home.entity_name(),
            &*entity.to_text(),
        ))
    }

    /// Makes this device hold its entity's key again, from a backup.
    ///
    /// # Errors
    /// The backup is damaged or of another entity.
    pub fn entity_restore(&self, backup: &str) -> Result<(), ControlError> {
        let home = &self.0.home;
        let entity = backup_key(backup, "entity", "cloak device backup")?;
        if entity.entity_id() != home.entity() {
            return Err(failed("the backup is of another entity"));
        }
        let mut keys = Keys::clone(&home.keys());
        keys.entity = Some(entity);
        home.set_keys(keys).map_err(failed)
    }

    /// The realm's keys and record as text, to be kept offline.
    ///
    /// # Errors
    /// This device does not hold them.
    pub fn realm_backup(&self) -> Result<String, ControlError> {
        let home = &self.0.home;
        let keys = home.keys();
        let (Some(authority), Some(recovery)) = (&keys.authority, &keys.recovery) else {
            return Err(failed(
                "this device does not hold the realm's keys; back up on the device \
                               that founded the realm",
            ));
        };
        Ok(format!(
            "# Cloak realm {} ({}). Whoever has these keys owns the realm: keep them offline.\n\
             authority {}\nrecovery {}\n",
            home.realm_label(),
            home.realm_id(),
            &*authority.to_text(),
            &*recovery.to_text(),
        ))
    }

    /// Makes this device the realm's authority again from a backup. Where the authority of the
    /// backup was replaced or its key may be in wrong hands, the recovery key replaces it: what it
    /// signed before is honoured for the life of a membership.
    ///
    /// # Errors
    /// The backup is of another realm, damaged, or older than a replacement of its recovery key.
    pub fn realm_restore(&self, backup: &str) -> Result<(), ControlError> {
        let home = &self.0.home;
        let now = self.0.clock.wall();
        let (authority, recovery) = parse_backup(backup)?;
        let mut rng = system_rng().map_err(failed)?;
        let fresh = SecretKey::generate(&mut rng);
        let own = self.0.tls.device();
        let kept = home.change(|trust, _| {
            if trust.realm.genesis().recovery != recovery.public_key() {
                return Err(failed("the backup is of another realm"));
            }
            let kept = if trust.realm.authority() == authority.public_key() {
                authority.clone()
            } else {
                let until = now + cloak_identity::MEMBERSHIP_LIFE;
                let replaced = trust.realm.replace_authority(&recovery, fresh.public_key(), until);
                replaced.map_err(failed)?;
                fresh.clone()
            };
            let by = Authority::new(&trust.realm, &kept).map_err(failed)?;
            trust.delegation = Some(by.delegate(now, own, NameLimits::Any, Rights::FOUND_TREE));
            let membership = trust.credentials.membership().clone();
            let revocations = &trust.revocations;
            let renewed = trust.credentials.renewed(&trust.realm, membership, revocations, now);
            trust.credentials = renewed.map_err(failed)?;
            Ok(kept)
        })?;
        let mut keys = Keys::clone(&home.keys());
        keys.authority = Some(kept);
        keys.recovery = Some(recovery);
        home.set_keys(keys).map_err(failed)?;
        self.0.publish();
        Ok(())
    }
}

/// The authority's and the recovery key of a backup.
fn parse_backup(text: &str) -> Result<(SecretKey, SecretKey), ControlError> {
    let key = |what| backup_key(text, what, "cloak realm backup");
    Ok((key("authority")?, key("recovery")?))
}

/// One key of a backup that `command` made.
fn backup_key(text: &str, what: &str, command: &str) -> Result<SecretKey, ControlError> {
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
    line.and_then(|key| key.trim().parse::<SecretKey>().ok()).ok_or_else(|| {
        failed(format!(
            "the backup has no readable {what} key; give the whole text that `{command}` gave"
        ))
    })
}

fn parse_label(text: &str) -> Result<Label, ControlError> {
    let text = text.strip_suffix(".cloak").unwrap_or(text);
    let first = text.split('.').next().unwrap_or(text);
    first.parse().map_err(|error| failed(format!("{text:?} {error}")))
}

fn unknown(what: &str, label: &Label) -> ControlError {
    ControlError::NotFound(format!("this device knows no {what} {}", label.as_str()))
}
