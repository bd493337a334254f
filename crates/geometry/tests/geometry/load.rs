//! Names are spread evenly over the children of every peer.

use std::collections::BTreeMap;
use std::f64::consts::{PI, TAU};

use cloak_base::Rng;
use cloak_geometry::{Degree, VirtualPoint};

use crate::addresses::degree;

const NAMES: u32 = 100_000;

/// Names per child, the children being told apart by the index that `child` gives.
fn count(children: u8, child: impl Iterator<Item = u8>) -> Vec<u32> {
    let mut counts = vec![0; usize::from(children)];
    child.for_each(|index| counts[usize::from(index)] += 1);
    counts
}

/// Chi-square against uniform, in standard deviations from what chance gives.
fn surprise(counts: &[u32]) -> f64 {
    let total: u32 = counts.iter().sum();
    let expected = f64::from(total) / counts.len() as f64;
    let square = |count: &u32| (f64::from(*count) - expected).powi(2) / expected;
    let freedom = (counts.len() - 1) as f64;
    (counts.iter().map(square).sum::<f64>() - freedom) / (2.0 * freedom).sqrt()
}

fn points(degree: Degree) -> Vec<VirtualPoint> {
    let names = (0..NAMES).map(|number| format!("service-{number}.example"));
    names.flat_map(|name| VirtualPoint::of_name(name.as_bytes(), degree)).collect()
}

#[test]
fn names_are_uniform_over_children_at_every_depth() {
    for degree in [3, 8, 16, 64].map(degree) {
        let points = points(degree);
        for depth in [0, 1, 2, 3, 5, 20, 63] {
            let digits = points.iter().map(|point| point.path().as_bytes()[depth]);
            let counts = count(degree.children_at(depth), digits);
            assert!(surprise(&counts) < 5.0, "degree {degree}, depth {depth}: {counts:?}");
        }
    }
}

#[test]
fn names_are_uniform_over_the_children_of_each_single_peer() {
    let degree = degree(8);
    let mut below: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for point in points(degree) {
        for depth in 1..=2 {
            let path = &point.path().as_bytes()[..=depth];
            below.entry(path[..depth].to_vec()).or_default().push(path[depth]);
        }
    }
    assert_eq!(below.len(), 8 + 8 * 7);
    for (peer, digits) in below {
        let counts = count(7, digits.into_iter());
        assert!(surprise(&counts) < 5.0, "below {peer:?}: {counts:?}");
    }
}

/// The child of a peer at depth `depth` towards the point at `angle` of the disk's edge, if points
/// were angles: the plane is moved so that one peer after the other is at its centre.
fn child_at_angle(mut angle: f64, depth: usize, degree: Degree) -> u8 {
    let step = TAU / f64::from(degree.get());
    let edge = (degree.edge_length() / 2.0).tanh();
    let mut child = (angle / step).round().rem_euclid(degree.get().into());
    let mut direction = child * step;
    for _ in 0..depth {
        let (x, y) = ((angle - direction).cos(), (angle - direction).sin());
        // The map (z - edge) / (1 - edge z) of a point on the circle stays on it.
        let (top, bottom) = (y.atan2(x - edge), (-edge * y).atan2(1.0 - edge * x));
        angle = top - bottom;
        child = ((angle - PI).rem_euclid(TAU) / step).round() - 1.0;
        child = child.clamp(0.0, f64::from(degree.get() - 2));
        direction = PI + (child + 1.0) * step;
    }
    child as u8
}

/// Had names been uniform angles, the outer two of a peer's children would get two thirds of its
/// names (1/3, 1/15, 1/35 ... from either side); by digits each gets the same share.
#[test]
fn angle_skew_is_gone() {
    let degree = degree(64);
    let children = degree.children_at(1);
    let mut rng = Rng::from_u64(1);
    let angles = (0..NAMES).map(|_| rng.below(1 << 32) as f64 / f64::from(u32::MAX) * TAU);
    let skewed = count(children, angles.map(|angle| child_at_angle(angle, 1, degree)));
    let share = |at: usize| {
        let both = skewed[at] + skewed[usize::from(children) - 1 - at];
        f64::from(both) / 2.0 / f64::from(NAMES)
    };
    for (at, expected) in [1.0 / 3.0, 1.0 / 15.0, 1.0 / 35.0].into_iter().enumerate() {
        let found = share(at);
        assert!((found / expected - 1.0).abs() < 0.03, "{at} from a side: {found}, not {expected}");
    }
    assert!(surprise(&skewed) > 1000.0);

    let digits = points(degree).into_iter().take(NAMES as usize);
    let even = count(children, digits.map(|point| point.path().as_bytes()[1]));
    assert!(surprise(&even) < 5.0, "{even:?}");
}

/// The expansion is part of the protocol: these digits were computed by another program.
#[test]
fn points_are_those_of_the_specification() {
    let expected = [(3, THREE), (8, EIGHT), (16, SIXTEEN)];
    for (q, path) in expected {
        let [.., point] = VirtualPoint::of_name(b"printer.office", degree(q));
        assert_eq!(point.path().to_string(), path);
    }
}

const THREE: &str = "\
    2.0.1.1.0.1.1.0.1.0.1.1.0.0.1.1.1.1.0.0.0.0.0.0.0.1.0.0.1.1.1.1.0.0.0.1.1.0.0.0.\
    1.0.1.1.1.1.1.1.1.1.0.0.1.1.1.1.1.1.1.1.1.0.1.1";
const EIGHT: &str = "\
    5.2.6.4.0.6.4.0.3.1.6.4.0.3.6.3.3.6.1.0.2.2.0.1.1.4.3.1.6.5.6.4.1.1.2.6.6.0.3.1.\
    5.1.5.4.4.5.5.4.6.5.0.2.3.5.6.5.6.6.6.6.4.0.5.5";
const SIXTEEN: &str = "\
    11.6.14.10.1.14.9.0.8.2.12.8.1.6.13.7.7.14.3.0.6.4.0.3.2.9.7.3.14.11.13.9.3.3.4.\
    13.14.1.7.4.10.2.12.10.9.12.12.9.13.12.0.5.7.11.14.12.14.12.13.13.10.0.12.12";
