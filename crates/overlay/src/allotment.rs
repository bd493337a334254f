//! The places of an entity: how many, and where.
//!
//! An entity has as many points of the plane as its membership allows it places. They follow from its
//! id, so nobody chooses them, and whoever takes a child can work them out: a parent takes one device
//! of an entity for each of its points below, and any other parent none. Nobody counts places over the
//! whole realm, and still an entity with many devices gets no more of them at each level of the tree
//! than it has points; so it cannot surround a name. Its other devices attach.

use cloak_geometry::{Address, Degree, POINTS_PER_NAME, VirtualPoint};

use crate::contact::Standing;
use crate::seek::POINT_DIGITS;

/// Most points of an entity, whatever its membership says.
const POINTS_MAX: u8 = 16;
/// Hashed before the entity's id, so that no name has the same points.
const LABEL: &[u8] = b"cloak place 1\n";

/// The points near which an entity's devices have their places.
pub(crate) fn points(standing: &Standing, degree: Degree) -> Vec<Address> {
    let count = usize::from(standing.positions.min(POINTS_MAX));
    let hashed = |group: u8| {
        let name = [LABEL, standing.entity.as_bytes(), &[group]].concat();
        VirtualPoint::of_name(&name, degree)
    };
    let groups = u8::try_from(count.div_ceil(POINTS_PER_NAME)).unwrap_or(POINTS_MAX);
    let points = (0..groups).flat_map(hashed).take(count);
    points.map(|point| point.path().ancestor_at(POINT_DIGITS)).collect()
}

/// Children that a parent at `address` takes of an entity.
pub(crate) fn children_max(standing: &Standing, address: &Address, degree: Degree) -> usize {
    let below = |point: &Address| point.as_bytes().starts_with(address.as_bytes());
    points(standing, degree).into_iter().filter(below).count()
}

#[cfg(test)]
mod tests {
    use cloak_base::EntityId;

    use super::*;

    fn standing(entity: u8, positions: u8) -> Standing {
        Standing { entity: EntityId::from_bytes([entity; 32]), positions }
    }

    #[test]
    fn an_entity_has_as_many_points_as_places() {
        let degree = Degree::new(16).unwrap();
        for positions in [0, 1, 4, 5, 6, 16] {
            let points = points(&standing(1, positions), degree);
            assert_eq!(points.len(), usize::from(positions));
            assert!(points.iter().all(|point| point.depth() == POINT_DIGITS));
            let children = children_max(&standing(1, positions), &Address::ROOT, degree);
            assert_eq!(children, usize::from(positions), "the root is above all of them");
        }
        assert_eq!(points(&standing(1, 255), degree).len(), usize::from(POINTS_MAX));
        assert_ne!(points(&standing(1, 4), degree), points(&standing(2, 4), degree));
    }

    #[test]
    fn at_each_level_there_are_as_many_places_as_points() {
        let degree = Degree::new(8).unwrap();
        let all = standing(3, 4);
        let first: Vec<Address> =
            (0..8).map(|index| Address::ROOT.child(index, degree).unwrap()).collect();
        let places = first.iter().map(|at| children_max(&all, at, degree)).sum::<usize>();
        assert_eq!(places, 4);
    }
}
