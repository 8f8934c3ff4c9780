//! The middle tier's transform: some calls wait, some fail and some panic, as far as a stage must bear it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use jaiminho_core::Event;
use jaiminho_runtime::{Dedupe, Emitted, Failure, Transform, Verdict};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::event::{self, Part};
use crate::world::World;

pub(crate) struct Converter {
    pub(crate) world: World,
    pub(crate) host: String,
    pub(crate) seed: u64,
    /// Calls so far: an event that failed does not fail for ever.
    pub(crate) calls: AtomicU64,
    pub(crate) dedupe: Option<Dedupe>,
}

/// What a handler that panics says: a run does not count it as a failure of its own.
pub(crate) const PANIC: &str = "simulated panic";

impl Transform for Converter {
    fn dedupe(&self) -> Option<Dedupe> {
        self.dedupe
    }

    fn identity(&self, event: &Event) -> Option<u128> {
        event::read(&event.payload).map(event::Numbered::identity)
    }

    fn process<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Verdict, Failure>> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let chance = xxh3_64_with_seed(&calls.to_le_bytes(), self.seed) % 1_000;
        async move {
            self.world.thawed(&self.host).await;
            match chance {
                0..100 => tokio::time::sleep(Duration::from_millis(chance)).await,
                100..110 => return Err(Failure { text: "simulated failure".into() }),
                110..113 => panic!("{PANIC}"),
                _ => {}
            }
            let Some(of) = event::read(&event.payload) else {
                self.world.wrong(format!("{}: an event that nobody sent: {:?}", self.host, event.payload));
                return Ok(Verdict::Emit([].into_iter().collect()));
            };
            let emit = |part| Emitted::main(Part { of, part }.payload(&event.payload).into());
            Ok(Verdict::Emit((0..of.parts()).map(emit).collect()))
        }
        .boxed()
    }
}
