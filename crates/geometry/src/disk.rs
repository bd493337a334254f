//! Coordinates in the Poincaré disk, for pictures.

use std::f64::consts::TAU;

use crate::address::Address;
use crate::degree::Degree;
use crate::turn::Turns;

/// A point of the open unit disk; the root is at its centre.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskPoint {
    /// To the right.
    pub x: f64,
    /// Upwards.
    pub y: f64,
}

/// Where to draw the peer with this address.
///
/// For display only. The disk's edge is infinitely far away: from some `37 / L` levels on, `L` being
/// the length of an edge, the point saturates at the largest radius below one, and peers of one
/// subtree can no longer be told apart. Distances come from [`distance`](crate::distance).
pub fn disk(address: &Address, degree: Degree) -> DiskPoint {
    let step = TAU / f64::from(degree.get());
    // An edge of length L from the centre ends at radius tanh(L/2) = cos(π/q).
    let edge = Turns::of(degree).cos();
    let mut point = DiskPoint { x: 0.0, y: 0.0 };
    for (above, index) in address.as_bytes().iter().enumerate().rev() {
        let index = f64::from(*index);
        let direction = if above == 0 { index * step } else { TAU / 2.0 + (index + 1.0) * step };
        point = point.shifted(edge).turned(direction);
    }
    point.inside()
}

/// The largest radius that is drawn.
const RADIUS_MAX: f64 = 1.0 - f64::EPSILON;

impl DiskPoint {
    /// Distance from the centre, as drawn.
    pub fn radius(self) -> f64 {
        libm::hypot(self.x, self.y)
    }

    /// Moves the plane so that the centre comes to `by` on the horizontal axis:
    /// `(z + by) / (1 + by z)`.
    fn shifted(self, by: f64) -> Self {
        let (x, y) = (self.x + by, self.y);
        let (re, im) = (1.0 + by * self.x, by * self.y);
        let norm = re * re + im * im;
        Self { x: (x * re + y * im) / norm, y: (y * re - x * im) / norm }
    }

    fn turned(self, angle: f64) -> Self {
        let (sin, cos) = (libm::sin(angle), libm::cos(angle));
        Self { x: self.x * cos - self.y * sin, y: self.x * sin + self.y * cos }
    }

    fn inside(self) -> Self {
        let shrink = RADIUS_MAX / self.radius().max(RADIUS_MAX);
        Self { x: self.x * shrink, y: self.y * shrink }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_as_described() {
        let degree = Degree::new(8).unwrap();
        let at = |indices: &[u8]| disk(&Address::from_bytes(indices, degree).unwrap(), degree);
        assert_eq!(at(&[]), DiskPoint { x: 0.0, y: 0.0 });
        let radius = libm::tanh(degree.edge_length() / 2.0);
        let near = |a: DiskPoint, b: DiskPoint| libm::hypot(a.x - b.x, a.y - b.y) < 1e-14;
        assert!(near(at(&[0]), DiskPoint { x: radius, y: 0.0 }));
        assert!(near(at(&[2]), DiskPoint { x: 0.0, y: radius }));
        // Child 3 is in the direction π + 4 * 2π/8: straight on.
        let twice = libm::tanh(degree.edge_length());
        assert!(near(at(&[2, 3]), DiskPoint { x: 0.0, y: twice }));
        // Child 0 of the peer on the right is the first one counter-clockwise from its parent.
        assert!(at(&[0, 0]).y < 0.0 && at(&[0, 6]).y > 0.0);
    }

    #[test]
    fn deep_peers_stay_inside() {
        for q in [3, 8, 64] {
            let degree = Degree::new(q).unwrap();
            for index in [0, 1, q / 2] {
                let mut indices = [index; 1000];
                indices[0] = 0;
                let address = Address::from_bytes(&indices, degree).unwrap();
                let radius = disk(&address, degree).radius();
                assert!(radius < 1.0 && radius > 0.99, "{q}, {index}: {radius}");
            }
        }
    }
}
