//! SOCKS5 (RFC 1928) on the proxy port, by fast-socks5's typestate API.
//!
//! Passwords (RFC 1929) are read here, not by the library: it writes them to its debug log, and
//! drops a client with an empty password instead of refusing it.

use std::net::{Ipv4Addr, SocketAddr};

use cloak_node::Code;
use fast_socks5::server::{AuthMethod, AuthMethodSuccessState, Socks5ServerProtocol};
use fast_socks5::server::{SocksServerError, states};
use fast_socks5::util::target_addr::TargetAddr;
use fast_socks5::{ReplyError, Socks5Command};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tracing::debug;

use crate::destination::Destination;
use crate::errors::socks5_reply;
use crate::ingress::{Ingress, Opened};
use crate::stream::{Client, Prefixed};
use crate::users::Users;

/// First byte of every SOCKS5 message.
pub(crate) const VERSION: u8 = 5;

/// Serves one SOCKS5 connection.
pub(crate) async fn serve(ingress: &Ingress, mut client: Prefixed<Client>) {
    match converse(ingress, &mut client).await {
        Ok(opened) => ingress.carry(opened, client).await,
        Err(refused) => {
            debug!(%refused, "socks5");
            client.close().await;
        }
    }
}

/// Why a connection ended without a session; the client was told where it can be.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the request did not arrive in time")]
    Deadline,
    #[error("wrong user or password")]
    Login,
    #[error("command not supported")]
    Command,
    #[error("{0}")]
    Code(Code),
    #[error(transparent)]
    Protocol(#[from] SocksServerError),
    #[error("reading the password")]
    Io(#[from] std::io::Error),
}

async fn converse(ingress: &Ingress, client: &mut Prefixed<Client>) -> Result<Opened, Refused> {
    let settings = ingress.settings();
    let reading = timeout(settings.handshake_timeout, read_request(&settings.users, client)).await;
    let (protocol, command, target) = reading.map_err(|_| Refused::Deadline)??;
    if !matches!(command, Socks5Command::TCPConnect) {
        reply(protocol, &ReplyError::CommandNotSupported).await?;
        return Err(Refused::Command);
    }
    let (host, port) = target.into_string_and_port();
    let opened = match Destination::parse(&host, port, &settings.aliases) {
        Ok(destination) => ingress.open(&destination).await,
        Err(code) => Err(code),
    };
    match opened {
        Ok(opened) => {
            let bound = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            let written = timeout(settings.handshake_timeout, protocol.reply_success(bound)).await;
            written.map_err(|_| Refused::Deadline)??;
            Ok(opened)
        }
        Err(code) => {
            reply(protocol, &socks5_reply(code)).await?;
            Err(Refused::Code(code))
        }
    }
}

type Asked<'a> = Socks5ServerProtocol<&'a mut Prefixed<Client>, states::CommandRead>;

async fn read_request<'a>(
    users: &Users,
    client: &'a mut Prefixed<Client>,
) -> Result<(Asked<'a>, Socks5Command, TargetAddr), Refused> {
    let methods: &[Method] =
        if users.is_empty() { &[Method::Open, Method::Password] } else { &[Method::Password] };
    let negotiated = Socks5ServerProtocol::start(client).negotiate_auth(methods).await?;
    let admitted = negotiated.admit(users).await?;
    Ok(admitted.finish_auth().read_command().await?)
}

async fn reply(protocol: Asked<'_>, error: &ReplyError) -> Result<(), Refused> {
    timeout(REPLY_TIMEOUT, protocol.reply_error(error)).await.map_err(|_| Refused::Deadline)??;
    Ok(())
}

#[derive(Clone, Copy)]
enum Method {
    Open,
    Password,
}

struct Negotiated<T> {
    method: Method,
    stream: T,
}

struct Admitted<T>(T);

impl<T> AuthMethod<T> for Method {
    type StartingState = Negotiated<T>;

    fn method_id(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Password => 2,
        }
    }

    fn new(self, stream: T) -> Negotiated<T> {
        Negotiated { method: self, stream }
    }
}

impl<T> AuthMethodSuccessState<T> for Admitted<T> {
    fn into_inner(self) -> T {
        self.0
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Negotiated<T> {
    /// Checks the password if one was negotiated. Without users, any will do: some programs have
    /// no way to send none.
    async fn admit(mut self, users: &Users) -> Result<Admitted<T>, Refused> {
        if let Method::Open = self.method {
            return Ok(Admitted(self.stream));
        }
        let version = self.stream.read_u8().await?;
        let name = self.read_text().await?;
        let password = self.read_text().await?;
        let admitted =
            version == LOGIN_VERSION && (users.is_empty() || users.admit(&name, &password));
        self.stream.write_all(&[LOGIN_VERSION, u8::from(!admitted)]).await?;
        if admitted { Ok(Admitted(self.stream)) } else { Err(Refused::Login) }
    }

    async fn read_text(&mut self) -> Result<Vec<u8>, Refused> {
        let len = self.stream.read_u8().await?;
        let mut text = vec![0; usize::from(len)];
        self.stream.read_exact(&mut text).await?;
        Ok(text)
    }
}

const LOGIN_VERSION: u8 = 1;
const REPLY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
