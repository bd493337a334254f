//! The retries of an outage, as a future of the peer's task.

use std::sync::Arc;

use cloak_base::DeviceId;
use cloak_transport::{Connection, Redial};

use crate::api::BoxFuture;
use crate::shared::Shared;

/// The retries of an outage. What they know of the path outlives each outage.
pub(super) enum Redialling {
    Idle(Box<Redial>),
    Running(BoxFuture<'static, (Box<Redial>, Connection)>),
    /// Between the two.
    Moving,
}

impl Redialling {
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    /// Starts the retries, unless they run.
    pub(super) fn start(&mut self, shared: &Arc<Shared>, device: DeviceId) {
        *self = match std::mem::replace(self, Self::Moving) {
            Self::Idle(mut redial) => {
                let shared = Arc::clone(shared);
                Self::Running(Box::pin(async move {
                    let connection = redial.next(|| shared.locators_of(device)).await;
                    (redial, connection)
                }))
            }
            other => other,
        };
    }

    /// The connection that ends the outage.
    pub(super) async fn connection(&mut self) -> Connection {
        let Self::Running(running) = self else { return std::future::pending().await };
        let (redial, connection) = running.await;
        *self = Self::Idle(redial);
        connection
    }
}
