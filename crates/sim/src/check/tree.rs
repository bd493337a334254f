//! One tree for each connected component.

use cloak_base::DeviceId;
use cloak_overlay::{Place, TreeId};

use super::Fault;
use crate::peer::PeerId;
use crate::view::{View, Views};

/// Whether these connected peers form one tree, and those that cannot be dialled hang on it.
pub fn tree(views: &Views) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut roots = 0;
    let mut first: Option<(PeerId, TreeId)> = None;
    for view in &views.all {
        match &view.snapshot.place {
            Place::Seeking => faults.push(Fault::NoPlace(view.peer)),
            Place::Attached { hosts } => {
                if view.reachable || hosts.is_empty() {
                    faults.push(Fault::NoPlace(view.peer));
                }
                let gone = hosts.iter().find(|(device, address)| {
                    host(views, device).and_then(View::address) != Some(address)
                });
                faults.extend(gone.map(|(device, _)| Fault::NoHost(view.peer, *device)));
            }
            Place::Inner { address, tree, .. } => {
                let (other, agreed) = *first.get_or_insert((view.peer, *tree));
                if agreed != *tree {
                    faults.push(Fault::TwoTrees(other, view.peer));
                }
                roots += usize::from(address.is_root());
                if !address.is_root() && parent_address(views, view) != address.parent() {
                    faults.push(Fault::NoParent(view.peer, address.clone()));
                }
            }
        }
    }
    if roots != 1 && !views.all.is_empty() {
        faults.push(Fault::Roots(roots));
    }
    faults
}

fn host<'a>(views: &'a Views, device: &DeviceId) -> Option<&'a View> {
    views.find(device).map(|at| &views.all[at])
}

fn parent_address(views: &Views, view: &View) -> Option<cloak_overlay::Address> {
    let parent = view.snapshot.parent.as_ref()?;
    host(views, parent)?.address().cloned()
}
