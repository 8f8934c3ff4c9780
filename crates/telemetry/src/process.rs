//! What the system says of this process. Only Linux tells.

use std::fs;
use std::time::Duration;

/// Memory that this process has in use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// All of it.
    pub resident_bytes: u64,
    /// Of it, pages of files: the program itself, and its libraries.
    pub program_bytes: u64,
}

impl Memory {
    /// As the system counts it now.
    pub fn of_this_process() -> Option<Self> {
        let statm = fs::read_to_string("/proc/self/statm").ok()?;
        let mut pages = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
        let mut bytes = || Some(pages.next()?.ok()? * rustix::param::page_size() as u64);
        Some(Self { resident_bytes: bytes()?, program_bytes: bytes()? })
    }
}

/// Processor time that this process has used.
pub fn cpu_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name before it may have spaces and brackets of its own.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// So many processors it may use at most: all of them, or what its container's limit says (control groups, version 2 or 1).
pub fn cpus() -> f64 {
    let all = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let quota = read("cpu.max")
        .or_else(|| Some(read("cpu/cpu.cfs_quota_us")? + " " + &read("cpu/cpu.cfs_period_us")?))
        .and_then(|text| share(&text));
    quota.map_or(all, |quota| quota.min(all))
}

/// `QUOTA PERIOD`, both in the same unit; none: there is no limit.
fn share(text: &str) -> Option<f64> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<f64>);
    let (quota, period) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processor_time_are_told() {
        let started = cpu_time().unwrap();
        let held = vec![1_u8; 64 << 20];
        let memory = Memory::of_this_process().unwrap();
        assert!(memory.resident_bytes > 64 << 20 && held.iter().all(|byte| *byte == 1));
        assert!((1..64 << 20).contains(&memory.program_bytes), "{memory:?}");
        while cpu_time().unwrap() < started + Duration::from_millis(20) {}
    }

    #[test]
    fn a_limit_of_processors_is_a_quota_in_a_period() {
        let told = ["50000 100000\n", "max 100000\n", "-1\n 100000\n", "", "0 0"].map(share);
        assert_eq!(told, [Some(0.5), None, None, None, None]);
        assert!(cpus() > 0.0);
    }
}
