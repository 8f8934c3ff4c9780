//! Free ports, outside the range from which the kernel takes those of outgoing connections.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on, and that no other caller in this process gets.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of `count` neighbouring free ports.
pub fn free_ports(count: u16) -> u16 {
    const FIRST: u32 = 12_000;
    const RANGE: u32 = 20_000;
    // Two test processes at once start far apart.
    let start = std::process::id().wrapping_mul(499);
    for _ in 0..1_000 {
        let at = start.wrapping_add(NEXT.fetch_add(u32::from(count), Ordering::Relaxed));
        let first = (FIRST + at % (RANGE - u32::from(count))) as u16;
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("no {count} neighbouring free ports between {FIRST} and {}", FIRST + RANGE);
}
