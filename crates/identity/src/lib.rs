//! Who is who: keys, names, certificates, invitations, revocations and signed bindings.
//!
//! A realm's authority delegates registrars, a registrar certifies that an entity is a member under
//! a name, and an entity certifies its devices. A device shows that chain, its [`Credentials`], at
//! the start of every transport, and publishes it with its locators as a [`DeviceRecord`].
//!
//! Nothing here does IO or reads a clock; the time and randomness are arguments. Every record is
//! signed over exactly the bytes that travel, and has one encoding only (see [`Signed`]). The
//! cryptography is that of aws-lc-rs. docs/PROTOCOL.md, "Identity" and "Bindings", specifies it.

mod authority;
mod binding;
mod bindings;
mod codec;
mod credentials;
mod delegation;
mod device;
mod entity_record;
mod founding;
mod grant;
mod holders;
mod invitation;
mod invitations;
mod key;
mod membership;
mod name;
mod realm;
mod record_key;
mod redemption;
mod registrar;
mod revocation;
mod roster;
mod signed;
mod text;
mod validity;

pub use authority::{Authority, NotTheAuthority};
pub use binding::{
    ADDRESS_MAX, Announcement, Binding, BindingError, DEVICE_RECORD_LIFE, DeviceRecord,
    LOCATORS_MAX, PORTS_MAX, RELAYS_MAX,
};
pub use bindings::{BINDINGS_MAX, Bindings, Inserted};
pub use codec::DecodeError;
pub use credentials::{CREDENTIALS_MAX, Certificate, CredentialError, Credentials, Peer};
pub use delegation::{DELEGATION_LIFE, Delegation, LISTED_NAMES_MAX, NameLimits};
pub use device::{
    Certifier, DEVICE_LIFE, DEVICES_MAX, DeviceCertificate, DeviceChain, STEWARD_LIFE,
    STEWARDS_MAX, StewardCertificate,
};
pub use entity_record::{ENTITY_RECORD_LIFE, EntityBinding, EntityRecord, LISTED_DEVICES_MAX};
pub use founding::{Founding, FoundingLabels};
pub use grant::{GRANT_BINDINGS_MAX, GRANT_MAX, Grant};
pub use holders::NameHolders;
pub use invitation::{
    INVITATION_LIFE_MAX, INVITATION_LOCATORS_MAX, Invitation, InvitationId, InvitationKind,
    InvitationSecret,
};
pub use invitations::{
    INVITATIONS_MAX, InvitationError, Invitations, Issuer, Offer, TooManyInvitations,
};
pub use key::{BadSignature, PublicKey, SecretKey};
pub use membership::{MEMBERSHIP_LIFE, Membership, MembershipChain, POSITIONS_DEFAULT, Rights};
pub use name::{EntityName, KeySpellingError, Label, LabelError, Name, NameError};
pub use realm::{AuthorityChange, Genesis, Realm, RealmError};
pub use record_key::{NotARecordKey, RecordKey};
pub use redemption::{
    GrantError, Joined, RedeemRequest, Redemption, RedemptionError, Transcript, TransportEnd, Wish,
};
pub use registrar::{Registrar, RegistrarError};
pub use revocation::{
    EntityRevocations, REVOKED_DEVICES_MAX, REVOKED_ENTITIES_MAX, REVOKED_REGISTRARS_MAX,
    RealmRevocations, RevocationChain, RevocationError, RevocationList, RevocationLists,
};
pub use roster::{EntityDevice, MEMBERS_MAX, Member, Roster, RosterError};
pub use signed::{Record, Signed};
pub use text::TextError;
pub use validity::{CLOCK_TOLERANCE, TimeError, Validity};
