//! The home: a directory with a device's keys, its settings and its store.
//!
//! One process uses a home at a time. Keys and directory are readable by their owner only, and a
//! home that is not is refused rather than mended: somebody may have read it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use cloak_base::{EntityId, Incarnation, RealmId, UnixTime};
use cloak_identity::{Credentials, Founding, FoundingLabels, Label};
use cloak_transport::Clock;
use rustix::fs::FlockOperation;

use crate::keys::{Keys, KeysError};
use crate::node::system_rng;
use crate::store::{Store, StoreError};
use crate::sync::{read, write};
use crate::trust::Trust;

const KEYS: &str = "keys";
const KEYS_NEXT: &str = "keys.next";
const STORE: &str = "store.redb";
const LOCK: &str = "lock";
const CONFIG: &str = "config.toml";
const CONTROL: &str = "control.sock";
/// Longest path of a unix socket on every system we know, in bytes.
const SOCKET_PATH_MAX: usize = 107;

/// What is wrong with a home: what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is no identity in the directory.
    #[error("{} holds no Cloak identity; run `cloak init --name NAME` or `cloak join INVITATION` first", .0.display())]
    NotInitialised(PathBuf),
    /// There is one already.
    #[error("{} already holds a Cloak identity; use another --home for another one", .0.display())]
    AlreadyInitialised(PathBuf),
    /// Another gateway uses the home.
    #[error("another gateway (process {pid}) is using this home; stop it with `cloak stop`")]
    Locked {
        /// Its process id; 0 when it could not be told.
        pid: u32,
    },
    /// Others could read the keys.
    #[error("{} has mode {mode:04o}, so others may have read it; run `chmod {wanted:o} {}`", .path.display(), .path.display())]
    Permissions {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// Another user owns it.
    #[error("{} belongs to another user", .0.display())]
    Owner(PathBuf),
    /// A name or label that cannot be one.
    #[error("{what} {text:?} cannot be used: {source}")]
    Label {
        /// Which of them.
        what: &'static str,
        /// As it was given.
        text: String,
        /// Why not.
        #[source]
        source: cloak_identity::LabelError,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store does not hold what a home's does.
    #[error("the store of this home is incomplete; restore the home from a copy")]
    Incomplete,
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Random,
    /// The invitation could not be redeemed.
    #[error(transparent)]
    Join(#[from] crate::join::JoinError),
}

/// The names a realm is founded with.
#[derive(Debug, Clone)]
pub struct InitNames {
    /// The first entity's, `alice` of `alice.cloak`.
    pub name: String,
    /// What people call the realm.
    pub realm: String,
    /// The first device's, `laptop` of `laptop.alice.cloak`.
    pub device: String,
}

/// An open home. Nobody else uses it while this exists.
pub struct Home {
    dir: PathBuf,
    keys: RwLock<Arc<Keys>>,
    store: Store,
    trust: RwLock<Trust>,
    /// What never changes of `trust`, to be read without the lock.
    own: Own,
    /// Rises with every change of `trust`.
    version: AtomicU64,
    _lock: File,
}

/// Who we are.
struct Own {
    realm: RealmId,
    entity: EntityId,
    entity_name: String,
    device_name: String,
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Home {
    /// Founds a realm, with its first entity and this device.
    ///
    /// # Errors
    /// A home that exists, names that cannot be used, files that cannot be written.
    pub fn init(dir: &Path, names: InitNames, clock: &dyn Clock) -> Result<Self, HomeError> {
        let labels = FoundingLabels {
            realm: label("the realm's label", &names.realm)?,
            name: label("the name", names.name.strip_suffix(".cloak").unwrap_or(&names.name))?,
            device: label("the device's label", &names.device)?,
        };
        let vacancy = Vacancy::claim(dir)?;
        let mut rng = system_rng().map_err(|_| HomeError::Random)?;
        let founding = Founding::new(&mut rng, clock.wall(), labels);
        let mut trust = Trust::new(founding.realm, founding.credentials);
        trust.delegation = Some(founding.delegation);
        trust.note_own(clock.wall());
        let keys = Keys {
            device: founding.device,
            entity: Some(founding.entity),
            authority: Some(founding.authority),
            recovery: Some(founding.recovery),
        };
        vacancy.settle(keys, trust)
    }

    /// Opens the home in `dir`.
    ///
    /// # Errors
    /// No identity, wrong permissions, another process, damaged files.
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let keys_path = dir.join(KEYS);
        if !keys_path.exists() {
            return Err(HomeError::NotInitialised(dir.to_owned()));
        }
        check_private(dir, 0o700)?;
        check_private(&keys_path, 0o600)?;
        let lock = acquire(dir)?;
        let mut text = zeroize::Zeroizing::new(String::new());
        File::open(&keys_path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .map_err(|source| HomeError::Io { path: keys_path, source })?;
        let keys = Keys::parse(&text)?;
        let store = Store::open(&dir.join(STORE))?;
        let trust = Trust::load(&store)?.ok_or(HomeError::Incomplete)?;
        let keys = RwLock::new(Arc::new(keys));
        Ok(Self::assemble(dir.to_owned(), keys, store, trust, lock))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the settings of the home in `dir` are.
    pub fn config_path(dir: &Path) -> PathBuf {
        dir.join(CONFIG)
    }

    /// Where the gateway of the home in `dir` is controlled. In the runtime directory when the path
    /// would be too long for a socket.
    pub fn control_socket(dir: &Path) -> PathBuf {
        let here = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).join(CONTROL);
        if here.as_os_str().len() <= SOCKET_PATH_MAX {
            return here;
        }
        let digest = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            here.as_os_str().as_encoded_bytes(),
        );
        let tag: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let runtime =
            std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        runtime.join(format!("cloak-{tag}.sock"))
    }

    fn assemble(
        dir: PathBuf,
        keys: RwLock<Arc<Keys>>,
        store: Store,
        trust: Trust,
        lock: File,
    ) -> Self {
        let own = Own {
            realm: trust.realm.id(),
            entity: trust.credentials.membership().membership.entity,
            entity_name: trust.entity_name(),
            device_name: trust.device_name(),
        };
        let (trust, version) = (RwLock::new(trust), AtomicU64::new(0));
        Self { dir, keys, store, trust, own, version, _lock: lock }
    }

    /// `laptop.alice.cloak`.
    pub fn device_name(&self) -> String {
        self.own.device_name.clone()
    }

    /// `alice.cloak`.
    pub fn entity_name(&self) -> String {
        self.own.entity_name.clone()
    }

    /// What people call the realm.
    pub fn realm_label(&self) -> String {
        self.trust().realm.label().as_str().to_owned()
    }

    pub(crate) fn realm_id(&self) -> RealmId {
        self.own.realm
    }

    pub(crate) fn entity(&self) -> EntityId {
        self.own.entity
    }

    pub(crate) fn credentials(&self) -> Vec<u8> {
        self.trust().credentials.encode()
    }

    pub(crate) fn membership_expires(&self) -> UnixTime {
        self.trust().credentials.membership().expires()
    }

    pub(crate) fn certificate_expires(&self) -> UnixTime {
        self.trust().credentials.device().expires()
    }

    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&read(&self.keys))
    }

    /// Replaces the key file, whole or not at all.
    pub(crate) fn set_keys(&self, keys: Keys) -> Result<(), HomeError> {
        let (path, next) = (self.dir.join(KEYS), self.dir.join(KEYS_NEXT));
        let io = |source| HomeError::Io { path: path.clone(), source };
        match std::fs::remove_file(&next) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        write_private(&next, &keys.to_text()).map_err(io)?;
        std::fs::rename(&next, &path).map_err(io)?;
        *write(&self.keys) = Arc::new(keys);
        Ok(())
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Rises with every change of what this device knows of its realm.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What this device knows of its realm. Not to be asked for again while it is held: a writer
    /// that waits in between would hold up both.
    pub(crate) fn trust(&self) -> RwLockReadGuard<'_, Trust> {
        read(&self.trust)
    }

    /// Changes what this device knows of its realm, durably before anyone sees it.
    ///
    /// # Errors
    /// What `change` says, or that it could not be stored; then nothing has changed.
    pub(crate) fn change<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Trust, &Keys) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut held = write(&self.trust);
        let mut next = held.clone();
        let result = change(&mut next, &self.keys())?;
        if next != *held {
            next.save(&self.store)?;
            *held = next;
            self.version.fetch_add(1, Ordering::Release);
        }
        Ok(result)
    }

    /// The run that begins now: a counter that is stored, and a random number.
    pub(crate) fn next_incarnation(&self, random: u64) -> Result<Incarnation, HomeError> {
        let stored = self.store.get("incarnation")?;
        let last = stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        let counter = last + 1;
        self.store.put(&[("incarnation", &counter.to_be_bytes())])?;
        Ok(Incarnation { counter, random })
    }
}

/// A directory that is about to become a home.
pub(crate) struct Vacancy {
    dir: PathBuf,
    lock: File,
}

impl Vacancy {
    /// Makes the directory, or takes an existing one without an identity.
    pub(crate) fn claim(dir: &Path) -> Result<Self, HomeError> {
        let io = |source| HomeError::Io { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        if dir.join(KEYS).exists() {
            return Err(HomeError::AlreadyInitialised(dir.to_owned()));
        }
        check_private(dir, 0o700)?;
        Ok(Self { lock: acquire(dir)?, dir: dir.to_owned() })
    }

    /// Writes the store, then the keys: with the keys it is a home.
    pub(crate) fn settle(self, keys: Keys, trust: Trust) -> Result<Home, HomeError> {
        let store = Store::open(&self.dir.join(STORE))?;
        trust.save(&store)?;
        let path = self.dir.join(KEYS);
        write_private(&path, &keys.to_text()).map_err(|source| HomeError::Io { path, source })?;
        let keys = RwLock::new(Arc::new(keys));
        Ok(Home::assemble(self.dir, keys, store, trust, self.lock))
    }
}

pub(crate) fn label(what: &'static str, text: &str) -> Result<Label, HomeError> {
    text.parse().map_err(|source| HomeError::Label { what, text: text.to_owned(), source })
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn check_private(path: &Path, wanted: u32) -> Result<(), HomeError> {
    let metadata = std::fs::metadata(path)
        .map_err(|source| HomeError::Io { path: path.to_owned(), source })?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(HomeError::Permissions { path: path.to_owned(), mode, wanted });
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(HomeError::Owner(path.to_owned()));
    }
    Ok(())
}

/// Takes the home's lock and writes our process id into it.
fn acquire(dir: &Path) -> Result<File, HomeError> {
    let path = dir.join(LOCK);
    let io = |source| HomeError::Io { path: path.clone(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut text = String::new();
        let _ = file.read_to_string(&mut text);
        return Err(HomeError::Locked { pid: text.trim().parse().unwrap_or(0) });
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io)?;
    Ok(file)
}

impl Home {
    /// The membership that is to be renewed, once half of its life is over.
    pub(crate) fn membership_to_renew(&self, now: UnixTime) -> Option<Vec<u8>> {
        let trust = self.trust();
        let membership = trust.credentials.membership();
        membership.membership.validity.is_renewal_due(now).then(|| membership.encode())
    }

    /// Takes over renewed credentials.
    pub(crate) fn adopt(&self, credentials: Credentials, now: UnixTime) -> Result<(), StoreError> {
        self.change(|trust, _| {
            trust.credentials = credentials;
            trust.note_own(now);
            Ok(())
        })
    }
}
