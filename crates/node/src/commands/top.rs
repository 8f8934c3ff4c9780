//! `jaiminho top`: what a running pipeline does.

use jaiminho_observe::text;

use super::block_on;
use crate::{
    cli::{Global, Top},
    exit::Failure,
    observed::{Reached, nothing_answers},
    output::line,
};

pub(crate) fn run(global: &Global, top: &Top) -> Result<(), Failure> {
    if !top.once {
        return Err(Failure::usage("standard output is no terminal to draw on; --once prints one look"));
    }
    let mut reached = Reached::new(global)?;
    block_on(async {
        let view = reached.view(1).await;
        if let Some(failure) = nothing_answers(&view) {
            return Err(failure);
        }
        if global.json {
            return line(serde_json::to_string(&view).map_err(Failure::software)?);
        }
        line(text::once(&view))
    })
}
