//! One side of a run: says what it knows on standard output, a line each, and ends when standard input does.

use jaiminho_bench::link::{Job, Open, Producer, alone, consume};
use serde::Serialize;
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::cli::{BenchSide, Role};
use crate::exit::Failure;
use crate::output;

pub(super) async fn run(side: &BenchSide) -> Result<(), Failure> {
    let job: Job = serde_json::from_str(&side.job).map_err(|error| Failure::usage(format!("the run: {error}")))?;
    match (side.role, side.producer) {
        (Role::Produce, _) => {
            let (producer, listening) = Producer::bind(job).await?;
            output::line(json!({ "listening": listening }))?;
            let (sent, open) = producer.run().await?;
            end(sent, open).await
        }
        (Role::Consume, Some(producer)) => {
            let (arrived, open) = consume(&job, producer).await?;
            end(arrived, open).await
        }
        (Role::Pass, Some(producer)) => {
            let (pass, listening) = Producer::bind(job).await?;
            let open = pass.pass(producer).await?;
            end(json!({ "listening": listening }), open).await
        }
        (Role::Alone, _) => {
            let (done, open) = alone(&job).await?;
            end(done, open).await
        }
        (Role::Consume | Role::Pass, None) => Err(Failure::usage("this side needs the address of the one before it")),
    }
}

async fn end(done: impl Serialize, open: Open) -> Result<(), Failure> {
    line(done)?;
    // Whatever comes, it is the end that says: both sides are done.
    let _ended = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    line(open.taken())?;
    open.close().await;
    Ok(())
}

fn line(value: impl Serialize) -> Result<(), Failure> {
    output::line(serde_json::to_string(&value).map_err(Failure::software)?)
}
