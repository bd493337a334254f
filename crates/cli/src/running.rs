//! A running gateway: node, proxy port, services and control socket, wired together.
//!
//! `up` runs one for as long as the process lives; `demo` runs one beside its other peers. Each part
//! has a task in one tracker; [`Running::shutdown`] ends them from the application side inwards.

mod reload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloak_gateway::control::Control;
use cloak_gateway::{BindError, Proxy, ProxyHandle, Services};
use cloak_node::{Home, Node, StartError};
use cloak_transport::SystemClock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::reload::Reloader;
use crate::args::Up;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// How long the end may take: the contract is 5 s. The node takes at most three to tell its peers,
/// the proxy port meanwhile two for requests on their way.
const END_TIMEOUT: Duration = Duration::from_millis(4_500);

/// A gateway, running. Dropping it aborts nothing; call [`Running::shutdown`].
pub(crate) struct Running {
    node: Node,
    proxy: ProxyHandle,
    name: String,
    control_socket: PathBuf,
    reloader: Arc<Reloader>,
    tasks: TaskTracker,
    applications: CancellationToken,
    control: CancellationToken,
    stop: CancellationToken,
}

impl Running {
    /// Binds every listener and starts every part. `file` and `flags` are what `settings` was read
    /// from, for reloads.
    ///
    /// # Errors
    /// What could not be bound or opened; nothing is left running.
    pub(crate) async fn start(
        home: Home,
        settings: Settings,
        file: PathBuf,
        flags: Up,
    ) -> Result<Self, Failure> {
        let (directory, name) = (home.dir().to_owned(), home.device_name());
        let proxy = Proxy::bind(&settings.proxy, &settings.outbound, &settings.aliases)?;
        let services = Arc::new(
            Services::new(&settings.services, &settings.exit).map_err(anyhow::Error::from)?,
        );
        let control_socket = Home::control_socket(&directory);
        let listener = Control::bind(&control_socket).map_err(|error| {
            anyhow::Error::from(error)
                .context(format!("cannot listen at {}", control_socket.display()))
        })?;
        let clock = Arc::new(SystemClock);
        let node = Node::start(home, settings.node.clone(), services.clone(), clock).await?;

        let handle = proxy.handle();
        let reloader = Arc::new(Reloader {
            file,
            flags,
            node: node.clone(),
            proxy: handle.clone(),
            services: services.clone(),
            current: tokio::sync::Mutex::new(settings),
        });
        let running = Self {
            node: node.clone(),
            proxy: handle.clone(),
            name,
            control_socket,
            reloader: reloader.clone(),
            tasks: TaskTracker::new(),
            applications: CancellationToken::new(),
            control: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let control = Control {
            node: node.clone(),
            services,
            proxy: handle,
            home: directory,
            reload: reloader,
            stop: running.stop.clone(),
        };
        running.tasks.spawn(control.run(listener, running.control.clone()));
        running.tasks.spawn(proxy.run(Arc::new(node), running.applications.clone()));
        running.tasks.close();
        Ok(running)
    }

    /// The node.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Cancelled when somebody asked by the control socket for the end.
    pub(crate) fn stop_requested(&self) -> &CancellationToken {
        &self.stop
    }

    /// Addresses of the proxy port, as bound.
    pub(crate) fn proxy_addresses(&self) -> Vec<String> {
        self.proxy.addresses().iter().map(ToString::to_string).collect()
    }

    /// The line that says that everything is bound.
    pub(crate) fn ready_line(&self) -> String {
        let overlay: Vec<_> =
            self.node.overlay_addresses().iter().map(ToString::to_string).collect();
        format!(
            "ready proxy={} overlay={} name={}\n",
            self.proxy_addresses().join(","),
            overlay.join(","),
            self.name,
        )
    }

    /// Re-reads the configuration, and logs what came of it.
    pub(crate) async fn reload(&self) {
        match self.reloader.apply().await {
            Ok(done) => tracing::info!(
                changed = done.changed.join(" "),
                restart_needed = done.restart_needed.join(" "),
                "reloaded"
            ),
            Err(refusal) => tracing::error!("nothing was reloaded: {refusal}"),
        }
    }

    /// Ends in order: no new requests, peers told, control socket last.
    pub(crate) async fn shutdown(self) {
        self.applications.cancel();
        let ended = async {
            self.node.shutdown().await;
            self.control.cancel();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(END_TIMEOUT, ended).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        // It may be gone already; the lock, not the socket, tells whether a gateway runs.
        let _ = std::fs::remove_file(&self.control_socket);
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        let exit = match error {
            BindError::Listen { .. } | BindError::NotASocket(_) | BindError::InUse(_) => {
                Exit::Failed
            }
            BindError::OpenToStrangers(_) | BindError::Users(_) | BindError::Alias(_) => {
                Exit::Usage
            }
        };
        Self::new(exit, error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(Exit::Failed, error)
    }
}
