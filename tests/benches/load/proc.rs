//! What the kernel accounts to other processes.

use std::fs;

/// Seconds of processor time that all of `processes` used so far, user and system.
///
/// Summed over their threads in nanoseconds; `/proc/PID/stat` counts in ticks of 10 ms, of which a
/// thousand idle sessions use a handful, but knows of threads that have ended, too.
pub(crate) fn processor_seconds(processes: &[u32]) -> f64 {
    processes.iter().map(|id| living(*id).max(all(*id))).sum()
}

fn living(process: u32) -> f64 {
    let nanoseconds: u64 = files(process, "schedstat")
        .iter()
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "microseconds are enough")]
    let seconds = nanoseconds as f64 / 1e9;
    seconds
}

fn all(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: f64 =
        fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    // The kernel's user-visible tick is 100 Hz on every platform.
    ticks / 100.0
}

/// The status of each thread of a process.
pub(crate) fn threads(process: u32) -> Vec<String> {
    files(process, "status")
}

/// Resident memory of all of `processes` in KiB.
pub(crate) fn resident_kib(processes: &[u32]) -> f64 {
    processes.iter().map(|id| resident_kib_of(*id)).sum()
}

fn resident_kib_of(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .expect("the kernel tells the resident size")
}

fn files(process: u32, name: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join(name)).ok()).collect()
}
