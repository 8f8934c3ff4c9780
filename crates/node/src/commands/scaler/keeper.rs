//! What is known of the stages that somebody asks about: one decision more with each look at the pipeline.

use std::{sync::Arc, time::Duration};

use jaiminho_observe::View;
use jaiminho_scaling::{Decision, Options, Scaling};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::sight::sight;

/// Stages, each with the options that it is asked about with, that are followed; of more, who was not asked about for longest goes.
const FOLLOWED_MAX: usize = 256;

/// What is decided of a stage; or what is not seen of it.
pub(super) type Told = Result<Decision, String>;

/// A question.
pub(super) struct Ask {
    pub(super) stage: String,
    pub(super) options: Options,
    pub(super) reply: oneshot::Sender<Told>,
}

struct Followed {
    stage: String,
    options: Options,
    scaling: Scaling,
    told: Told,
}

/// See the module. After a restart every stage begins with what it has.
pub(super) struct Keeper {
    start: Instant,
    /// Who was asked about last comes last.
    followed: Vec<Followed>,
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), followed: Vec::new() }
    }

    /// Until nobody looks or nobody can ask any more.
    pub(super) async fn run(mut self, mut views: watch::Receiver<Arc<View>>, mut asks: mpsc::Receiver<Ask>) {
        loop {
            tokio::select! {
                changed = views.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let view = views.borrow_and_update().clone();
                    let now = self.start.elapsed();
                    self.followed.iter_mut().for_each(|of| of.look(now, &view));
                }
                ask = asks.recv() => {
                    let Some(ask) = ask else { return };
                    let view = views.borrow().clone();
                    let told = self.ask(ask.stage, ask.options, &view);
                    // Who asked may have gone.
                    let _gone = ask.reply.send(told);
                }
            }
        }
    }

    fn ask(&mut self, stage: String, options: Options, view: &View) -> Told {
        let known = self.followed.iter().position(|of| of.stage == stage && of.options == options);
        let followed = if let Some(index) = known {
            self.followed.remove(index)
        } else {
            let told = Err("it is not looked at yet".into());
            let mut new = Followed { stage, options, scaling: Scaling::new(options), told };
            new.look(self.start.elapsed(), view);
            new
        };
        let told = followed.told.clone();
        if self.followed.len() >= FOLLOWED_MAX {
            self.followed.remove(0);
        }
        self.followed.push(followed);
        told
    }
}

impl Followed {
    fn look(&mut self, now: Duration, view: &View) {
        let told = sight(view, &self.stage).map(|sight| self.scaling.decide(now, &sight));
        self.log(&told);
        self.told = told;
    }

    /// What changes, once.
    fn log(&self, told: &Told) {
        let stage = &self.stage;
        match (&self.told, told) {
            (Ok(before), Ok(now)) if before.needed != now.needed => {
                tracing::info!(stage, current = now.current, needed = now.needed, why = %now.why, "scaled");
            }
            (Ok(_), Err(why)) => tracing::warn!(stage, why, "it is seen in part: its number of instances is not told"),
            (Err(_), Ok(_)) => tracing::info!(stage, "all of it is seen"),
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
        }
    }
}
