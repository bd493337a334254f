//! From a device's id to its number in the simulation.

use std::collections::BTreeMap;

use cloak_base::DeviceId;

use crate::peer::PeerId;
use crate::signatures::Signatures;

/// All devices that ever were.
pub(crate) struct Directory {
    devices: Vec<DeviceId>,
    /// Only where ids do not hold the number.
    by_id: BTreeMap<DeviceId, PeerId>,
    signatures: Signatures,
}

impl Directory {
    /// No devices yet.
    pub(crate) fn new(signatures: Signatures) -> Self {
        Self { devices: Vec::new(), by_id: BTreeMap::new(), signatures }
    }

    /// Adds a device under the next number.
    pub(crate) fn add(&mut self, device: DeviceId) -> PeerId {
        let number = u32::try_from(self.devices.len()).expect("invariant: fewer peers than 2^32");
        let peer = PeerId(number);
        self.devices.push(device);
        if self.signatures == Signatures::Real {
            self.by_id.insert(device, peer);
        }
        peer
    }

    /// Whose id this is.
    pub(crate) fn find(&self, device: &DeviceId) -> Option<PeerId> {
        if self.signatures == Signatures::Real {
            return self.by_id.get(device).copied();
        }
        let number = device.as_bytes().last_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
        let peer = PeerId(number);
        (self.devices.get(peer.index()) == Some(device)).then_some(peer)
    }

    /// The id of a peer.
    pub(crate) fn device(&self, peer: PeerId) -> DeviceId {
        self.devices[peer.index()]
    }
}

#[cfg(test)]
mod tests {
    use cloak_base::Rng;
    use cloak_overlay::Rank;

    use super::*;

    #[test]
    fn every_device_is_found_and_strangers_are_not() {
        for kind in [Signatures::Real, Signatures::Tags] {
            let mut rng = Rng::from_u64(2);
            let mut directory = Directory::new(kind);
            let mut draw = |number| kind.draw(number, Rank::NONE, &mut rng).device;
            let devices: Vec<DeviceId> = (0..20).map(&mut draw).collect();
            let peers: Vec<PeerId> = devices.iter().map(|device| directory.add(*device)).collect();
            for (device, peer) in devices.iter().zip(&peers) {
                assert_eq!(directory.find(device), Some(*peer));
                assert_eq!(directory.device(*peer), *device);
            }
            assert_eq!(directory.find(&draw(3)), None, "{kind:?}");
        }
    }
}
