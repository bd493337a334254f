//! Settings: `config.toml`, and the flags of `cloak up` added to it.
//!
//! Each crate owns its section; here they are put together, and what concerns several keys at once
//! is checked. Every mistake is found before a port is bound, and points at its line and column.

mod place;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use cloak_gateway::{Aliases, ExitConfig, OutboundConfig, ProxyConfig, ServiceConfig};
use cloak_node::{DeviceConfig, MemoryConfig, NodeConfig, OverlayConfig, SessionConfig};
use serde::Deserialize;

use crate::args::{Expose, Up};
use crate::log::{self, LogConfig};

use self::place::Step;

/// Largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything a gateway is told, checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Settings {
    /// `[proxy]`
    pub(crate) proxy: ProxyConfig,
    /// `[outbound]`
    pub(crate) outbound: OutboundConfig,
    /// `[[service]]`
    pub(crate) services: Vec<ServiceConfig>,
    /// `[exit]`
    pub(crate) exit: ExitConfig,
    /// `[aliases]`: alias to `.cloak` name, both usable
    pub(crate) aliases: BTreeMap<String, String>,
    /// `[overlay]`, `[session]`, `[memory]`, `[device]`
    pub(crate) node: NodeConfig,
    /// `[log]`
    pub(crate) log: LogConfig,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is no configuration.
    #[error("{} is larger than 1 MiB, so it is no configuration file", path.display())]
    TooLarge { path: PathBuf },
    /// A mistake in the file, with its line and column.
    #[error("{}: {explained}", path.display())]
    Mistake { path: PathBuf, explained: String },
    /// A mistake in the flags.
    #[error("{0}")]
    Flag(Conflict),
}

/// What is wrong with settings that are each well-formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Conflict {
    #[error(
        "{0} is reachable from other machines, so [proxy] users must be configured: an open proxy \
         would let anyone in as you. Listen on 127.0.0.1, or add users"
    )]
    OpenProxy(String),
    #[error("a service needs a port from 1 to 65535")]
    PortZero,
    #[error("port {0} is exposed twice; give each [[service]] a port of its own")]
    DuplicatePort(u16),
    #[error(transparent)]
    Alias(#[from] cloak_gateway::BadAlias),
    #[error("not a log level: write error, warn, info, debug or trace")]
    LogLevel,
    #[error("at least one address to listen at is needed")]
    NowhereToListen,
}

impl Settings {
    /// Reads `file`, or takes the defaults where it does not exist, and adds `flags`.
    ///
    /// # Errors
    /// See [`SettingsError`]; nothing is bound or written by then.
    pub(crate) fn load(file: &Path, flags: &Up) -> Result<Self, SettingsError> {
        let text = match (read(file), &flags.config) {
            (Ok(text), _) => text,
            (Err(SettingsError::Read { source, .. }), None)
                if source.kind() == io::ErrorKind::NotFound =>
            {
                String::new()
            }
            (Err(error), _) => return Err(error),
        };
        Self::parse(&text, flags).map_err(|mistake| match mistake {
            Mistake::InFile(explained) => {
                SettingsError::Mistake { path: file.to_owned(), explained }
            }
            Mistake::InFlags(conflict) => SettingsError::Flag(conflict),
        })
    }

    fn parse(text: &str, flags: &Up) -> Result<Self, Mistake> {
        let mut file: File =
            toml::from_str(text).map_err(|error| Mistake::InFile(error.to_string()))?;
        file.add(flags, text);
        if let Some((path, conflict)) = file.conflict() {
            return Err(match place::locate(text, &path) {
                Some(span) => Mistake::InFile(place::point(text, span, conflict)),
                None => Mistake::InFlags(conflict),
            });
        }
        Ok(file.into_settings())
    }
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    proxy: ProxyConfig,
    overlay: OverlayConfig,
    outbound: OutboundConfig,
    service: Vec<ServiceConfig>,
    exit: ExitConfig,
    session: SessionConfig,
    memory: MemoryConfig,
    device: DeviceConfig,
    aliases: BTreeMap<String, String>,
    log: LogConfig,
}

#[derive(Debug, PartialEq)]
enum Mistake {
    InFile(String),
    InFlags(Conflict),
}

impl File {
    /// Flags add to what the file says; a default that the file does not say gives way to them.
    fn add(&mut self, flags: &Up, text: &str) {
        let said = |table, key| place::is_set(text, &[Step::Key(table), Step::Key(key)]);
        extend(&mut self.proxy.listen, &flags.proxy, said("proxy", "listen"));
        extend(&mut self.overlay.listen, &flags.listen, said("overlay", "listen"));
        self.overlay.advertise.extend_from_slice(&flags.advertise);
        self.overlay.peers.extend_from_slice(&flags.peer);
        let exposed = flags.expose.iter().map(Expose::to_service);
        self.service.extend(exposed);
    }

    /// The first conflict, and the key to look at.
    fn conflict(&self) -> Option<(Vec<Step<'_>>, Conflict)> {
        self.open_proxy()
            .or_else(|| self.nowhere_to_listen())
            .or_else(|| self.bad_service())
            .or_else(|| self.bad_alias())
            .or_else(|| {
                let bad = !log::is_level(&self.log.level);
                bad.then(|| (vec![Step::Key("log"), Step::Key("level")], Conflict::LogLevel))
            })
    }

    fn open_proxy(&self) -> Option<(Vec<Step<'_>>, Conflict)> {
        let address = self.proxy.open_to_strangers()?;
        let index = self.proxy.listen.iter().position(|listen| listen == address)?;
        let path = vec![Step::Key("proxy"), Step::Key("listen"), Step::At(index)];
        Some((path, Conflict::OpenProxy(address.to_string())))
    }

    fn nowhere_to_listen(&self) -> Option<(Vec<Step<'_>>, Conflict)> {
        let sections =
            [("proxy", self.proxy.listen.is_empty()), ("overlay", self.overlay.listen.is_empty())];
        let (section, _) = sections.into_iter().find(|(_, empty)| *empty)?;
        Some((vec![Step::Key(section), Step::Key("listen")], Conflict::NowhereToListen))
    }

    fn bad_service(&self) -> Option<(Vec<Step<'_>>, Conflict)> {
        self.service.iter().enumerate().find_map(|(index, service)| {
            let port = service.port;
            let twice = self.service[..index].iter().any(|earlier| earlier.port == port);
            let conflict = match port {
                0 => Conflict::PortZero,
                _ if twice => Conflict::DuplicatePort(port),
                _ => return None,
            };
            Some((vec![Step::Key("service"), Step::At(index), Step::Key("port")], conflict))
        })
    }

    fn bad_alias(&self) -> Option<(Vec<Step<'_>>, Conflict)> {
        self.aliases.iter().find_map(|(alias, target)| {
            let entry = BTreeMap::from([(alias.clone(), target.clone())]);
            let bad = Aliases::new(&entry).err()?;
            Some((vec![Step::Key("aliases"), Step::Key(alias)], bad.into()))
        })
    }

    fn into_settings(self) -> Settings {
        Settings {
            proxy: self.proxy,
            outbound: self.outbound,
            services: self.service,
            exit: self.exit,
            aliases: self.aliases,
            node: NodeConfig {
                overlay: self.overlay,
                session: self.session,
                memory: self.memory,
                device: self.device,
            },
            log: self.log,
        }
    }
}

/// `flags` after what the file says, or instead of a default that it does not say.
fn extend<T: Clone>(values: &mut Vec<T>, flags: &[T], said_in_file: bool) {
    if !said_in_file && !flags.is_empty() {
        values.clear();
    }
    values.extend_from_slice(flags);
}

fn read(file: &Path) -> Result<String, SettingsError> {
    let failed = |source| SettingsError::Read { path: file.to_owned(), source };
    if std::fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(SettingsError::TooLarge { path: file.to_owned() });
    }
    std::fs::read_to_string(file).map_err(failed)
}

#[cfg(test)]
mod tests;
