//! A transfer whose transport is destroyed again and again, beside the same undisturbed.

use std::time::Duration;

use cloak_tests::clock;

use crate::origin;
use crate::path::{Gateways, Path};
use crate::results::{CUT, Results, WHOLE};

/// Bytes of a transfer.
const BYTES: u64 = 4 << 30;
const CUT_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn measure(gateways: &Gateways, rounds: usize, results: &mut Results) {
    if let Err(why) = gateways.cut() {
        eprintln!("LEFT OUT: cuts: {why}");
        return;
    }
    for _ in 0..rounds {
        for (measure, is_cut) in [(WHOLE, false), (CUT, true)] {
            let start = clock::now();
            std::thread::scope(|scope| {
                let transfer = scope.spawn(|| origin::download(gateways.dial(), BYTES));
                while is_cut && !transfer.is_finished() {
                    clock::every(CUT_EVERY, CUT_EVERY, || {
                        gateways.cut().expect("it could be done before");
                    });
                }
            });
            #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
            let mib = (BYTES >> 20) as f64;
            results.push(measure, gateways.name(), mib / start.elapsed().as_secs_f64());
        }
    }
}
