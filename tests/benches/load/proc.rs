//! What the kernel accounts to other processes.

/// Seconds of processor time that all of `processes` used so far, user and system.
///
/// Summed over their threads in nanoseconds, where `/proc/PID/stat` counts in ticks of 10 ms, of
/// which a thousand idle sessions use a handful. A thread that ends takes its time with it: the
/// few that do have done next to nothing.
pub(crate) fn processor_seconds(processes: &[u32]) -> f64 {
    processes.iter().map(|id| seconds_of(*id)).sum()
}

fn seconds_of(id: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).expect("the process runs");
    let nanoseconds: u64 = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "microseconds are enough")]
    let seconds = nanoseconds as f64 / 1e9;
    seconds
}

/// Resident memory of a process in KiB.
pub(crate) fn resident_kib(id: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .expect("the kernel tells the resident size")
}
