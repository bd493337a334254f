//! Where peers and names sit in the hyperbolic plane, and how far apart they are.
//!
//! The peers of an overlay form a tree. Each has an [`Address`], the path of child indices from the
//! root, and the tree is laid out in the plane so that walking to the neighbour that is nearest to a
//! destination follows the tree's own path (greedy routing, see [`Degree`] for the proof). A name
//! is hashed to points at the edge of the plane ([`VirtualPoint`]); the deepest peer on the path to
//! such a point, its binder, is where greedy routing to the point ends.
//!
//! # Exactness
//! A path is exact at any depth, coordinates are not: in doubles they fail eleven levels down at
//! degree 8. So distances come from the paths alone, relative to the lowest common ancestor:
//! [`Distance`] multiplies matrices without negative entries, one for each peer passed, and so has
//! a relative error of about 1e-15 for each hop. Coordinates ([`disk`]) are for pictures only.
//!
//! # Determinism
//! Peers must agree on what is nearer. Everything here is additions, multiplications and functions
//! of `libm`, which give the same bits on every platform; nothing calls the platform's own
//! mathematics. There is no IO, clock or randomness.

mod address;
mod degree;
mod disk;
mod distance;
mod path;
mod point;
mod towards;
mod turn;

pub use address::{Address, AddressError, DEPTH_MAX};
pub use degree::{Degree, DegreeError};
pub use disk::{DiskPoint, disk};
pub use distance::{Distance, distance};
pub use point::{POINT_DEPTH, POINTS_PER_NAME, VirtualPoint};
pub use towards::Towards;
