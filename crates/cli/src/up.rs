//! `cloak up`: runs the gateway of a home until it is told to end.

use std::io;
use std::path::Path;

use cloak_node::{Home, HomeError};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::Up;
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::running::Running;
use crate::settings::{Settings, SettingsError};
use crate::{descriptors, log};

/// Runs it.
///
/// # Errors
/// A mistake in the configuration (nothing was touched then), another gateway in the same home, an
/// address that is taken.
pub(crate) async fn run(home: &Path, flags: &Up) -> Result<(), Failure> {
    let file = flags.config.clone().unwrap_or_else(|| Home::config_path(home));
    let settings = Settings::load(&file, flags)?;
    log::start(&settings.log);
    descriptors::raise();
    let mut signals = Signals::new()?;
    let running = Running::start(Home::open(home)?, settings, file, flags.clone()).await?;
    print(running.ready_line())?;
    tell_systemd(&[NotifyState::Ready]);
    wait_for_end(&running, &mut signals).await;
    tell_systemd(&[NotifyState::Stopping]);
    running.shutdown().await;
    Ok(())
}

async fn wait_for_end(running: &Running, signals: &mut Signals) {
    loop {
        tokio::select! {
            biased;
            () = running.stop_requested().cancelled() => return,
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            _ = signals.hang_up.recv() => running.reload().await,
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Does nothing where systemd did not start us.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        Self::new(Exit::Failed, error)
    }
}
