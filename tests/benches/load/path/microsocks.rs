//! microsocks: two plain SOCKS5 relays, the second reached through the first.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path as Directory;
use std::process::Command;

use cloak_tests::client;
use cloak_tests::process::Owned;

use super::{MICROSOCKS, Path, await_listener, free_port, need, output};

#[derive(Debug)]
pub(crate) struct Microsocks {
    relays: [(Owned, SocketAddr); 2],
    server: SocketAddr,
}

impl Microsocks {
    /// # Errors
    /// Why it is left out.
    pub(crate) fn before(directory: &Directory, server: SocketAddr) -> Result<Self, String> {
        let program = need("microsocks")?;
        let relays = [1, 2].map(|number| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let mut command = Command::new(&program);
            command.args(["-i", "127.0.0.1", "-p", &address.port().to_string()]);
            let log = directory.join(format!("microsocks{number}.log"));
            let process = Owned::start_group(command, &log);
            await_listener(MICROSOCKS, address);
            (process, address)
        });
        Ok(Self { relays, server })
    }
}

impl Path for Microsocks {
    fn name(&self) -> &'static str {
        MICROSOCKS
    }

    fn version(&self) -> Option<String> {
        let version = output("dpkg-query", &["-W", "-f=${Version}", "microsocks"])?;
        Some(format!("microsocks {version}"))
    }

    fn dial(&self) -> TcpStream {
        let [(_, near), (_, far)] = &self.relays;
        let mut stream = client::socks5_address(*near, *far).expect("the relay connects");
        let IpAddr::V4(ip) = self.server.ip() else { panic!("the server listens on IPv4") };
        stream.write_all(&[5, 1, 0]).expect("the stream takes a greeting");
        stream.read_exact(&mut [0; 2]).expect("the second relay greets");
        let mut request = vec![5, 1, 0, 1];
        request.extend(ip.octets());
        request.extend(self.server.port().to_be_bytes());
        stream.write_all(&request).expect("the stream takes a request");
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).expect("the second relay answers");
        assert_eq!(reply[1], 0, "the second relay connects");
        stream
    }

    fn ends(&self) -> Vec<u32> {
        self.relays.iter().map(|(process, _)| process.id()).collect()
    }
}
