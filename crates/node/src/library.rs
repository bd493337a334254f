//! Sessions for programs that link this crate: streams, and listeners for services.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use cloak_node::{Home, Listeners, Node, NodeConfig};
//! # use cloak_transport::SystemClock;
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! # async fn example(home: Home) -> Result<(), Box<dyn std::error::Error>> {
//! let listeners = Arc::new(Listeners::default());
//! let mut greetings = listeners.listen(80, |_| true)?;
//! let node = Node::start(home, NodeConfig::default(), listeners, Arc::new(SystemClock)).await?;
//! tokio::spawn(async move {
//!     while let Some(mut arrival) = greetings.accept().await {
//!         let _ = arrival.stream.write_all(b"hello").await;
//!     }
//! });
//! let mut stream = node.connect("bob.cloak", 80).await?;
//! let mut greeting = String::new();
//! stream.read_to_string(&mut greeting).await?;
//! # Ok(())
//! # }
//! ```

mod listeners;
mod stream;

use cloak_wire::{Code, Early, Target};

pub use listeners::{Arrival, ListenError, Listener, Listeners};
pub use stream::{LeaveError, Signals, Stream};

use crate::Node;
use crate::api::{OpenRequest, Opener};
use crate::node::ControlError;
use stream::pipe;

/// What `sessions` calls the application of a library's stream.
const APPLICATION: &str = "library";

impl Node {
    /// Opens a session to the service of `name` at `port`, and waits until its backend is connected.
    ///
    /// # Errors
    /// Why not; see docs/guide/errors.md.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the session at both ends.
    pub async fn connect(&self, name: &str, port: u16) -> Result<Stream, Code> {
        let request = OpenRequest {
            name: name.to_owned(),
            target: Target::Service(port),
            application: APPLICATION.to_owned(),
            early: Early::default(),
        };
        let opened = self.open(request).await?;
        let (stream, application) = pipe();
        opened.attach(Box::new(application));
        Ok(stream)
    }

    /// Goes on with a session that is held here, or that another device of our entity has. Gives what its
    /// last application left behind as well; nothing where it left nothing.
    ///
    /// # Errors
    /// No such session, it has an application, or why the other device keeps it.
    pub async fn attach(&self, id: &str) -> Result<(Stream, Vec<u8>), ControlError> {
        let id = self.await_application(id, None).await?.id;
        let (stream, application) = pipe();
        let state = self.attach_session(&id, Box::new(application), APPLICATION, None).await?;
        Ok((stream, state))
    }
}
