//! `[exit]`: whether peers may reach the ordinary Internet from here.

use serde::Deserialize;

use super::Allow;

/// Whether peers may reach the ordinary Internet from here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExitConfig {
    /// Who may. Default: nobody.
    pub allow: Vec<Allow>,
    /// Whether they also reach this machine and the networks that it is on. Default false.
    pub private: bool,
}
