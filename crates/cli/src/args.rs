//! What can be typed: the commands, their flags and their help.
//!
//! Only syntax is checked here. Values are turned into settings by [`crate::settings`], so that a
//! flag and the same key in `config.toml` go through one check.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use cloak_gateway::{Allow, ListenAddress, ServiceConfig, ServiceTarget};

/// Reach services by name through a peer-to-peer overlay; connections survive their transport.
#[derive(Debug, Parser)]
#[command(name = "cloak", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, \
    3 gateway not running, 4 not found.")]
pub(crate) struct Cli {
    /// Directory of this peer: keys, config.toml, store [default: XDG_DATA_HOME/cloak]
    #[arg(long, global = true, env = "CLOAK_HOME", value_name = "DIR", hide_env_values = true)]
    pub(crate) home: Option<PathBuf>,

    /// Print JSON with stable fields instead of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole network in this process and print curl lines to try
    Demo(Demo),
    /// Create a realm, an entity and this device
    Init(Init),
    /// Redeem an invitation
    Join(Join),
    /// Run the gateway in the foreground
    Up(Up),
    #[command(flatten)]
    Question(Question),
    /// Connect stdin and stdout to a service, for ssh's ProxyCommand
    Connect {
        /// For example home.cloak:22
        #[arg(value_name = "NAME:PORT")]
        target: ServiceAddress,
    },
    /// Look for mistakes in the set-up and say what to do
    Doctor,
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// A command that the running gateway answers.
#[derive(Debug, Subcommand)]
pub(crate) enum Question {
    /// End the running gateway in order
    Stop,
    /// Take no new sessions, move those that can move to your other devices, wait for the others, and end
    Drain {
        /// Longest wait for sessions that cannot move, for example 10m
        #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
        deadline: Duration,
    },
    /// Re-read config.toml; no session is cut
    Reload,
    /// Show how the gateway is doing
    Status,
    /// List the devices this gateway knows
    Peers,
    /// List sessions, show one, close one, or move one
    #[command(args_conflicts_with_subcommands = true)]
    Sessions {
        /// List those of your other devices too
        #[arg(long)]
        entity: bool,
        #[command(subcommand)]
        command: Option<SessionsCommand>,
    },
    /// List the services exposed here
    Services,
    /// List the names this gateway knows
    Names,
    /// Show each step from a name to its device
    Resolve {
        /// For example demo.cloak
        name: String,
    },
    /// Measure round trips to the device of a name: through the overlay, and directly
    Ping {
        /// For example demo.cloak
        name: String,
    },
    /// Show the way through the overlay to the device of a name, hop by hop
    Trace {
        /// For example demo.cloak
        name: String,
    },
    /// Say which step fails on the way to a name or a service, and what the sessions with it do
    Why {
        /// For example demo.cloak or demo.cloak:80
        #[arg(value_name = "NAME[:PORT]")]
        target: NameAndPort,
    },
    /// Make an invitation for one new member; the last line of the output is the invitation
    Invite(Invite),
    /// Further devices of this entity
    Device {
        #[command(subcommand)]
        command: DeviceCommand,
    },
    /// Members of the realm
    Member {
        #[command(subcommand)]
        command: MemberCommand,
    },
    /// The realm's authority
    Realm {
        #[command(subcommand)]
        command: RealmCommand,
    },
}

/// `cloak demo`
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Number of peers
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=100))]
    pub(crate) peers: u16,
    /// Address of the proxy port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1080")]
    pub(crate) proxy: SocketAddr,
    /// Cut the transports of the gateway every MS milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub(crate) chaos: Option<u64>,
}

/// `cloak init`
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Name of the new entity: alice gives alice.cloak
    #[arg(long)]
    pub(crate) name: String,
    /// Label of the new realm
    #[arg(long, value_name = "LABEL", default_value = "home")]
    pub(crate) realm: String,
    /// Label of this device [default: the host name]
    #[arg(long, value_name = "LABEL")]
    pub(crate) device: Option<String>,
}

/// `cloak invite`
#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// Fix the new member's name; otherwise it chooses one
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) ttl: Ttl,
}

/// How long an invitation is good for.
#[derive(Debug, Args)]
pub(crate) struct Ttl {
    /// How long the invitation can be redeemed, for example 30m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(crate) ttl: Duration,
}

/// `cloak join`
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The invitation, or - to read it from stdin, which keeps it out of the shell's history
    pub(crate) invitation: String,
    /// Name of the new entity; refused where the inviter fixed one
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Label of this device [default: the host name]
    #[arg(long, value_name = "LABEL")]
    pub(crate) device: Option<String>,
}

/// `cloak device`
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Make an invitation for a further device of this entity
    Invite(Ttl),
    /// List the devices of this entity
    List,
    /// Make a device a steward: it may then invite and revoke devices of this entity too
    Steward {
        /// The device's label, for example laptop
        label: String,
    },
    /// Export the entity's key, to be kept offline
    Backup(Backup),
    /// Restore the entity's key on this device from a backup on stdin
    Restore,
    /// Revoke a device: its links and sessions end
    Revoke {
        /// The device's label, for example laptop
        label: String,
    },
}

/// `cloak device backup`
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// New file to write, readable by its owner only; otherwise stdout, where that is no terminal
    pub(crate) file: Option<PathBuf>,
    /// Print the secret even to a terminal
    #[arg(long, conflicts_with = "file")]
    pub(crate) show: bool,
}

/// `cloak member`
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List the members of the realm
    List,
    /// Revoke a member: all its devices lose the realm
    Revoke {
        /// The member's name, for example bob or bob.cloak
        name: String,
    },
}

/// `cloak realm`
#[derive(Debug, Subcommand)]
pub(crate) enum RealmCommand {
    /// Print what restores the realm's authority; keep it offline
    Backup,
    /// Restore the realm's authority from a backup on stdin
    Restore,
}

/// `cloak sessions`
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List them (as without a subcommand)
    List,
    /// Show everything about one session
    Show {
        /// The id, or the beginning of it
        id: String,
    },
    /// Close a session; both applications see a reset
    Close {
        /// The id, or the beginning of it
        id: String,
    },
    /// Hand a session over to another device, or to somebody who accepts it; it is held there until
    /// `attach`
    Move {
        /// The id, or the beginning of it
        id: String,
        /// A device of yours by its label, or any device or entity by its name
        #[arg(long, value_name = "DEVICE|NAME")]
        to: String,
    },
    /// Suspend a session until `resume`: it keeps its application, and needs no connection meanwhile
    Suspend {
        /// The id, or the beginning of it
        id: String,
    },
    /// Go on with a session that was suspended here
    Resume {
        /// The id, or the beginning of it
        id: String,
    },
    /// Take a session away from its application, which sees the end of its stream, and keep it
    Hold {
        /// The id, or the beginning of it
        id: String,
    },
    /// Go on with a session that is held here, or that another device of yours has
    Attach(Attach),
    /// List the sessions that others would hand over to you
    Offers,
    /// Take a session that is offered
    Accept {
        /// The id, or the beginning of it
        id: String,
    },
    /// Decline a session that is offered
    Refuse {
        /// The id, or the beginning of it
        id: String,
    },
}

/// `cloak sessions attach`
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The id, or the beginning of it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) at: AttachPlace,
    /// Go on from this byte of what the other end has sent, counted from 0, instead of where the program
    /// before stopped reading; only as far back as `[session] tail` keeps
    #[arg(long, value_name = "OFFSET")]
    pub(crate) from: Option<u64>,
}

/// Where the next application of a session comes from.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct AttachPlace {
    /// Give it to the program that connects here: a loopback address; port 0 is any
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Give it to the program that connects to this new unix socket
    #[arg(long, value_name = "PATH")]
    unix: Option<PathBuf>,
    /// Go on from stdin and stdout; the default
    #[arg(long)]
    stdio: bool,
}

impl AttachPlace {
    /// The socket where the gateway is to wait for it; none where it is this very command.
    pub(crate) fn listen(&self) -> std::io::Result<Option<String>> {
        Ok(match (self.listen, &self.unix) {
            (Some(address), _) => Some(address.to_string()),
            (None, Some(path)) => Some(format!("unix:{}", std::path::absolute(path)?.display())),
            (None, None) => None,
        })
    }
}

/// `cloak up`: each flag adds to config.toml.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Up {
    /// Configuration file [default: config.toml in the home]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where applications connect: IP:PORT or unix:PATH [default: 127.0.0.1:1080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) proxy: Vec<ListenAddress>,
    /// Where peers connect; port 0 is any [default: [::]:7140]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<SocketAddr>,
    /// What peers should dial instead, for example behind a port forward
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise: Vec<SocketAddr>,
    /// Expose a service to the realm: 80=127.0.0.1:8080 or 22=unix:/run/x.sock
    #[arg(long, value_name = "PORT=TARGET")]
    pub(crate) expose: Vec<Expose>,
    /// A peer to dial at start
    #[arg(long, value_name = "[KEY@]ADDR")]
    pub(crate) peer: Vec<String>,
}

/// `PORT=TARGET`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expose {
    pub(crate) port: u16,
    pub(crate) target: ServiceTarget,
}

/// `NAME:PORT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceAddress {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// `NAME` or `NAME:PORT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameAndPort {
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
}

/// A word that is not of the form its place asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SyntaxError {
    #[error("write PORT=TARGET, as in 80=127.0.0.1:8080")]
    Expose,
    #[error("write NAME:PORT, as in demo.cloak:80")]
    ServiceAddress,
    #[error("the port is a number from 1 to 65535")]
    Port,
    #[error("write a number with s, m, h or d, as in 24h")]
    Duration,
}

impl Expose {
    /// The service it stands for: for every member of the realm.
    pub(crate) fn to_service(&self) -> ServiceConfig {
        ServiceConfig {
            port: self.port,
            target: self.target.clone(),
            allow: vec![Allow::Realm],
            movable: cloak_node::Movable::No,
            balance: cloak_node::Balance::None,
        }
    }
}

impl FromStr for Expose {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (port, target) = text.split_once('=').ok_or(SyntaxError::Expose)?;
        let target = target.parse().map_err(|_| SyntaxError::Expose)?;
        Ok(Self { port: service_port(port)?, target })
    }
}

impl FromStr for NameAndPort {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(service_port(port)?)),
            None => (text, None),
        };
        if name.is_empty() {
            return Err(SyntaxError::ServiceAddress);
        }
        Ok(Self { name: name.to_owned(), port })
    }
}

impl FromStr for ServiceAddress {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let NameAndPort { name, port } = text.parse()?;
        Ok(Self { name, port: port.ok_or(SyntaxError::ServiceAddress)? })
    }
}

fn service_port(text: &str) -> Result<u16, SyntaxError> {
    text.parse().ok().filter(|port| *port != 0).ok_or(SyntaxError::Port)
}

/// At least one second.
fn duration(text: &str) -> Result<Duration, SyntaxError> {
    cloak_node::text::duration::parse(text)
        .filter(|time| *time >= Duration::from_secs(1))
        .ok_or(SyntaxError::Duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_parses_as_documented() {
        for line in [
            "demo --peers 3 --proxy 127.0.0.1:0 --chaos 500",
            "init --name alice --realm lab --device laptop",
            "invite --name bob --ttl 30m",
            "join - --name bob --device desk",
            "device invite --ttl 2h",
            "device list",
            "device revoke laptop",
            "device steward laptop",
            "device backup",
            "device backup key.txt",
            "device backup --show",
            "device restore",
            "member list",
            "member revoke bob",
            "realm backup",
            "realm restore",
            "up --config c.toml --proxy 127.0.0.1:0 --proxy unix:/tmp/p --listen [::]:0 \
             --advertise 192.0.2.1:7140 --expose 80=127.0.0.1:8080 --peer 192.0.2.2:7140",
            "stop",
            "status --json",
            "peers",
            "services",
            "names",
            "sessions",
            "sessions list",
            "sessions show 0a",
            "sessions close 0a",
            "resolve demo.cloak",
            "connect demo.cloak:80",
            "why demo.cloak",
            "why demo.cloak:80 --json",
            "reload",
            "doctor",
            "completions bash",
            "man",
        ] {
            let words = std::iter::once("cloak").chain(line.split_whitespace());
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn words_of_the_wrong_form_are_told_apart() {
        for (text, error) in [
            ("80", SyntaxError::Expose),
            ("80=", SyntaxError::Expose),
            ("0=127.0.0.1:1", SyntaxError::Port),
            ("65536=127.0.0.1:1", SyntaxError::Port),
        ] {
            assert_eq!(text.parse::<Expose>(), Err(error), "{text}");
        }
        for (text, error) in [
            ("demo.cloak", SyntaxError::ServiceAddress),
            (":80", SyntaxError::ServiceAddress),
            ("demo.cloak:", SyntaxError::Port),
            ("demo.cloak:0", SyntaxError::Port),
        ] {
            assert_eq!(text.parse::<ServiceAddress>(), Err(error), "{text}");
        }
        for text in ["", "24", "h", "0s", "-1h", "1.5h", "99999999999999999999d"] {
            assert_eq!(duration(text), Err(SyntaxError::Duration), "{text}");
        }
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(
            "demo.cloak".parse(),
            Ok(NameAndPort { name: "demo.cloak".to_owned(), port: None })
        );
    }
}
