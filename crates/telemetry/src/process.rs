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

/// Processor time that it has used.
pub(crate) fn cpu() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name before it may have spaces and brackets of its own.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processor_time_are_told() {
        let started = cpu().unwrap();
        let held = vec![1_u8; 64 << 20];
        let memory = Memory::of_this_process().unwrap();
        assert!(memory.resident_bytes > 64 << 20 && held.iter().all(|byte| *byte == 1));
        assert!((1..64 << 20).contains(&memory.program_bytes), "{memory:?}");
        while cpu().unwrap() < started + Duration::from_millis(20) {}
    }
}
