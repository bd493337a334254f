//! `cloak init` and `cloak join`: from an empty directory to a home.

use std::path::Path;

use cloak_node::{Home, InitNames};
use cloak_transport::SystemClock;
use serde::Serialize;

use crate::args::{Init, Join};
use crate::ask::stdin_text;
use crate::exit::Failure;
use crate::output::{print, print_json};
use crate::place::device_label;

/// Who this device is now.
#[derive(Debug, Serialize)]
struct Enrolled {
    /// `laptop.alice.cloak`
    name: String,
    /// `alice.cloak`
    entity: String,
    /// The realm's label.
    realm: String,
    /// The home.
    home: String,
}

/// Founds a realm.
///
/// # Errors
/// What stands in the way, in a sentence.
pub(crate) fn init(home: &Path, asked: Init, json: bool) -> Result<(), Failure> {
    let names = InitNames {
        name: bare(asked.name),
        realm: asked.realm,
        device: device_label(asked.device),
    };
    let home = Home::init(home, names, &SystemClock)?;
    tell(&home, json, "Start the gateway with `cloak up`; `cloak invite` then makes invitations.")
}

/// Joins a realm.
///
/// # Errors
/// What stands in the way, in a sentence.
pub(crate) async fn join(home: &Path, asked: Join, json: bool) -> Result<(), Failure> {
    let invitation = match asked.invitation.as_str() {
        "-" => stdin_text()?,
        _ => asked.invitation,
    };
    let name = asked.name.map(bare);
    let device = device_label(asked.device);
    let home = Home::join(home, &invitation, name.as_deref(), &device, &SystemClock).await?;
    tell(&home, json, "Start the gateway with `cloak up`.")
}

fn tell(home: &Home, json: bool, next: &str) -> Result<(), Failure> {
    let enrolled = Enrolled {
        name: home.device_name(),
        entity: home.entity_name(),
        realm: home.realm_label(),
        home: home.dir().display().to_string(),
    };
    match json {
        true => print_json(&enrolled)?,
        false => print(format!(
            "This device is {} in the realm \"{}\".\n{next}\n",
            enrolled.name, enrolled.realm,
        ))?,
    }
    Ok(())
}

/// People write `alice.cloak` where the label `alice` is asked for.
fn bare(name: String) -> String {
    name.strip_suffix(".cloak").map(str::to_owned).unwrap_or(name)
}
