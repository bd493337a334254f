//! Agreement with a reference of thousands of bits.

use cloak_base::Rng;
use cloak_geometry::{Address, Degree, DiskPoint, disk, distance};

use crate::addresses::{HABITS, degree, degrees, extend_as, pair};
use crate::exact::Exact;

/// The largest relative error of a distance that is allowed.
const ERROR_MAX: f64 = 1e-13;

fn check(exact: &mut Exact, a: &Address, b: &Address, degree: Degree) {
    let (ours, theirs) = (distance(a, b, degree).length(), exact.distance(a, b));
    let error = (ours - theirs).abs();
    assert!(error <= ERROR_MAX * theirs, "degree {degree}, {a} to {b}: {ours} is not {theirs}");
}

/// The distance that doubles in the Poincaré disk give.
fn from_coordinates(a: DiskPoint, b: DiskPoint) -> f64 {
    let gap = (a.x - b.x).powi(2) + (a.y - b.y).powi(2);
    let edge = |point: DiskPoint| 1.0 - point.radius().powi(2);
    (1.0 + 2.0 * gap / (edge(a) * edge(b))).acosh()
}

#[test]
fn distances_agree_with_the_reference_at_every_degree() {
    for degree in degrees() {
        let mut exact = Exact::new(degree, 40);
        let mut rng = Rng::from_u64(1000 + u64::from(degree.get()));
        for _ in 0..12 {
            let (a, b) = pair(&mut rng, 40, degree);
            let (c, _) = pair(&mut rng, 40, degree);
            check(&mut exact, &a, &b, degree);
            check(&mut exact, &a, &c, degree);
            let (to_b, to_c) = (exact.distance(&a, &b), exact.distance(&a, &c));
            if (to_b - to_c).abs() > ERROR_MAX * to_b {
                let nearer = distance(&a, &b, degree) < distance(&a, &c, degree);
                assert_eq!(nearer, to_b < to_c, "degree {degree}, {a} to {b} or {c}");
            }
        }
    }
}

/// At depth 1,000 distances are right to thirteen digits, where coordinates in doubles know
/// nothing: a peer and its child are drawn at one place.
#[test]
fn precision_at_depth() {
    for degree in [3, 8, 16, 64].map(degree) {
        let mut exact = Exact::new(degree, 1000);
        let mut rng = Rng::from_u64(degree.get().into());
        let ends = HABITS.map(|habit| {
            let top = Address::ROOT.child(degree.get() / 2, degree).unwrap();
            extend_as(&mut rng, &top, 996, degree, habit)
        });
        for (a, b) in ends.iter().zip(ends.iter().skip(1)) {
            check(&mut exact, a, b, degree);
        }
        let parent = ends[0].clone();
        let child = parent.child(1, degree).unwrap();
        check(&mut exact, &parent, &child, degree);
        check(&mut exact, &child, &ends[1], degree);
        let drawn = from_coordinates(disk(&parent, degree), disk(&child, degree));
        let lost = drawn.is_nan() || drawn < 0.5 * degree.edge_length();
        assert!(lost, "coordinates still do at degree {degree}: {drawn}");
    }
}
