//! Bindings: signed, fenced records that map a name to what is below it.
//!
//! A [`DeviceRecord`] is made and signed by the device itself. It carries the device's credentials,
//! so it alone resolves a name to an entity, to a device, to locators, even while no device with
//! the entity's key is online. Its epoch rises with every change; the highest is kept everywhere.

use std::net::SocketAddr;
use std::time::Duration;

use cloak_base::{DeviceId, Epoch, UnixTime};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::credentials::{CREDENTIALS_MAX, CredentialError, Credentials, Peer};
use crate::key::SecretKey;
use crate::realm::Realm;
use crate::revocation::RevocationLists;
use crate::signed::{Record, Signed};
use crate::validity::{CLOCK_TOLERANCE, TimeError, Validity};

/// Most locators in a record.
pub const LOCATORS_MAX: usize = 8;
/// Most exposed ports in a record.
pub const PORTS_MAX: usize = 64;
/// Most relays in a record.
pub const RELAYS_MAX: usize = 3;
/// Longest virtual address in a record, in levels.
pub const ADDRESS_MAX: usize = 64;
/// How long a device record counts. Its device refreshes it long before.
pub const DEVICE_RECORD_LIFE: Duration = Duration::from_secs(3600);
/// Longest life that a record may claim.
const RECORD_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Where a device is and what it offers. Signed by the device.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeviceRecord {
    #[n(0)]
    credentials: Credentials,
    #[n(1)]
    #[cbor(decode_with = "codec::at_most::<_, _, LOCATORS_MAX>")]
    locators: Vec<SocketAddr>,
    #[n(2)]
    #[cbor(decode_with = "codec::at_most::<_, _, PORTS_MAX>")]
    ports: Vec<u16>,
    #[n(3)]
    preference: u16,
    #[n(4)]
    epoch: Epoch,
    #[n(5)]
    validity: Validity,
    #[n(6)]
    #[cbor(decode_with = "codec::at_most::<_, _, RELAYS_MAX>")]
    relays: Vec<DeviceId>,
    #[n(7)]
    is_relay: bool,
    #[n(8)]
    address: Option<ByteVec>,
}

/// What a device publishes of itself, before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Best first; what is beyond [`LOCATORS_MAX`] is left out.
    pub locators: Vec<SocketAddr>,
    /// Exposed service ports, in any order; what is beyond [`PORTS_MAX`] is left out.
    pub ports: Vec<u16>,
    /// Among an entity's devices the lowest is tried first.
    pub preference: u16,
    /// Above that of every record published before.
    pub epoch: Epoch,
    /// Hosts through which the device may be reached, best first; what is beyond [`RELAYS_MAX`] is
    /// left out.
    pub relays: Vec<DeviceId>,
    /// Whether the device relays for others.
    pub is_relay: bool,
    /// Where it is in the overlay, or a host of it: the virtual address, a byte for each level. One
    /// longer than [`ADDRESS_MAX`] is left out.
    pub address: Option<Vec<u8>>,
}

/// A record that was verified, with the bytes in which it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    record: Signed<DeviceRecord>,
    bytes: Vec<u8>,
    peer: Peer,
}

/// Why a record does not count. Its maker is to blame, or whoever passed it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Not a record at all, or a wrong signature.
    #[error("the record is unreadable: {0}")]
    Decode(#[from] DecodeError),
    /// The credentials in it do not count for its signer.
    #[error("the record's credentials do not count: {0}")]
    Credential(#[from] CredentialError),
    /// It is from the future or over.
    #[error("the record {0}")]
    Time(#[from] TimeError),
    /// It claims to count for longer than a day.
    #[error("the record claims too long a life")]
    TooLong,
    /// Its name belongs to another entity, and the authority did not sign otherwise.
    #[error("the record's name belongs to another key")]
    NameTaken,
    /// Its epoch is far ahead of the time at which it was made: no later record could go above it.
    #[error("the record's epoch is in the future")]
    EpochAhead,
    /// An entity record that does not list the device that signed it.
    #[error("the record does not list the device that signed it")]
    SignerNotListed,
    /// A limit here.
    #[error("no room for another record")]
    Full,
}

const _: () = assert!(Signed::<DeviceRecord>::MAX <= 8 * 1024 - 8, "fits a control frame");

impl Record for DeviceRecord {
    /// The second form: the first had no relays. A record of that form is not known any more.
    const DOMAIN: &'static str = "device-record-2";
    /// Credentials, 8 locators of 25 bytes, 64 ports of 3 bytes, 3 relays of 34, an
    /// address, and the rest.
    const PAYLOAD_MAX: usize =
        CREDENTIALS_MAX + LOCATORS_MAX * 25 + PORTS_MAX * 3 + RELAYS_MAX * 34 + ADDRESS_MAX + 64;
}

impl DeviceRecord {
    /// Makes and signs the record of the device with this key.
    pub fn sign(
        device: &SecretKey,
        credentials: &Credentials,
        announcement: Announcement,
        now: UnixTime,
    ) -> Signed<Self> {
        let Announcement { mut locators, mut ports, preference, epoch, .. } = announcement;
        let Announcement { mut relays, is_relay, address, .. } = announcement;
        locators.truncate(LOCATORS_MAX);
        relays.truncate(RELAYS_MAX);
        ports.sort_unstable();
        ports.dedup();
        ports.truncate(PORTS_MAX);
        let validity = Validity::starting(now, DEVICE_RECORD_LIFE);
        let credentials = credentials.clone();
        let address = address.filter(|address| address.len() <= ADDRESS_MAX).map(ByteVec::from);
        let record = Self {
            credentials,
            locators,
            ports,
            preference,
            epoch,
            validity,
            relays,
            is_relay,
            address,
        };
        Signed::sign(record, device)
    }

    /// Where the device may be reached, best first. They are a peer's word: filter before dialling.
    pub fn locators(&self) -> &[SocketAddr] {
        &self.locators
    }

    /// Ports of the services that the device exposes.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Among an entity's devices the lowest is tried first.
    pub fn preference(&self) -> u16 {
        self.preference
    }

    /// The device's certificates.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The highest counts.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Hosts through which the device may be reached, best first.
    pub fn relays(&self) -> &[DeviceId] {
        &self.relays
    }

    /// Whether the device says that it relays for others.
    pub fn is_relay(&self) -> bool {
        self.is_relay
    }

    /// Where the device is in the overlay, or a host of it, as a byte for each level of the tree.
    pub fn address(&self) -> Option<&[u8]> {
        self.address.as_ref().map(|address| &***address)
    }

    /// When it was made, and until when it counts.
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

impl Binding {
    /// Verifies a record that arrived.
    ///
    /// # Errors
    /// The first reason why it does not count.
    pub fn verify(
        record: Signed<DeviceRecord>,
        realm: &Realm,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<Self, BindingError> {
        record.validity.check(now)?;
        if record.validity.expires.since(record.validity.issued) > RECORD_LIFE_MAX {
            return Err(BindingError::TooLong);
        }
        Self::verify_signer(record, realm, revocations, now)
    }

    /// Verifies a record that was kept: it may be over, and is then worth a try for its locators. A
    /// clock that says that it is not made yet is behind, for it counted when it was taken in.
    ///
    /// # Errors
    /// The first reason why it does not count.
    pub fn verify_kept(
        record: Signed<DeviceRecord>,
        realm: &Realm,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<Self, BindingError> {
        let now = now.max(record.validity.issued);
        Self::verify_signer(record, realm, revocations, now)
    }

    /// Whether the record still counts; otherwise it only remembers where the device was.
    pub fn is_fresh(&self, now: UnixTime) -> bool {
        now <= self.record.validity.expires + CLOCK_TOLERANCE
    }

    /// The record.
    pub fn record(&self) -> &DeviceRecord {
        &self.record
    }

    /// Who published it.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The device that published it.
    pub fn device(&self) -> DeviceId {
        self.peer.device
    }

    /// The record as it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn signed(&self) -> &Signed<DeviceRecord> {
        &self.record
    }

    fn verify_signer(
        record: Signed<DeviceRecord>,
        realm: &Realm,
        revocations: &RevocationLists,
        now: UnixTime,
    ) -> Result<Self, BindingError> {
        let device = DeviceId::from(record.signer());
        let peer = record.credentials.verify(realm, device, revocations, now)?;
        Ok(Self { bytes: record.encode(), record, peer })
    }
}
