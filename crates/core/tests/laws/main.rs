//! The laws of the core, after every step of random histories.
//!
//! `JAIMINHO_HISTORIES` sets how many (500), `JAIMINHO_SEED` where they begin. A failure prints the seed of its history;
//! `JAIMINHO_SEED=that JAIMINHO_HISTORIES=1` runs it again.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod groups;
mod history;
mod model;
mod peers;
mod random;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use history::{History, Reached};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn the_laws_hold_after_every_step_of_every_history() {
    let (histories, first) = (setting("JAIMINHO_HISTORIES", 500), setting("JAIMINHO_SEED", 1));
    let mut reached = Vec::new();
    for seed in first..first + histories {
        let history = catch_unwind(AssertUnwindSafe(|| {
            let mut history = History::new(seed);
            history.run();
            history.reached
        }));
        match history {
            Ok(what) => reached.push(what),
            Err(panic) => {
                eprintln!("history with JAIMINHO_SEED={seed} broke a law");
                resume_unwind(panic);
            }
        }
    }
    if histories >= 100 {
        check_reached(&reached);
    }
}

type Case = fn(&Reached) -> bool;

/// A property test that never meets the hard cases says nothing.
fn check_reached(reached: &[Reached]) {
    let cases: [(&str, Case); 13] = [
        ("full log", |reached| reached.full),
        ("oversized event", |reached| reached.oversized),
        ("partition moving with something unsettled", |reached| reached.moving),
        ("link lost while it moves", |reached| reached.lost_while_moving),
        ("rejected entry", |reached| reached.rejected),
        ("withdrawn entry", |reached| reached.withdrawn),
        ("drain past its time", |reached| reached.overdue),
        ("events while demand accumulates", |reached| reached.accumulated),
        ("broadcast left with something unsettled", |reached| reached.left_a_broadcast),
        ("events that waited for a broadcast's first group", |reached| reached.taken_over),
        ("event that a group does not want", |reached| reached.unwanted),
        ("discarded event", |reached| reached.discarded),
        ("fixed partition inherited with something unsettled", |reached| reached.inherited),
    ];
    for (what, case) in cases {
        let count = reached.iter().filter(|reached| case(reached)).count();
        eprintln!("{what}: {count} of {} histories", reached.len());
        assert!(count * 20 >= reached.len(), "{what}: only {count} of {} histories", reached.len());
    }
}
