//! `jaiminho send`: posts events over HTTP, and obeys what the server asks for.

mod bodies;
mod client;
mod values;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::json;
use tokio::task::JoinSet;

use self::bodies::{Bodies, from_reader, made};
pub(super) use self::bodies::{Body, is_cloud_event};
pub(super) use self::client::Client;
use self::client::Tally;
use super::{Found, block_on, file_or_running};
use crate::cli::{Global, Send};
use crate::config::component::Source;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::running::Running;

pub(crate) fn run(global: &Global, send: &Send) -> Result<(), Failure> {
    let url = match &send.url {
        Some(url) => url.clone(),
        None => find(global)?,
    };
    let token = send.token_file.as_ref().map(|path| {
        let wrong = |what: &dyn std::fmt::Display| Failure::usage(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.next().map(str::to_owned).ok_or_else(|| wrong(&"holds no token"))
    });
    let client = Client::new(url.clone(), token.transpose()?, &send.tls, send.retries)?;
    let batch = send.batch as usize;
    let bodies: Bodies = match (&send.input, send.count) {
        (Some(path), _) if path.as_os_str() == "-" => {
            from_reader("standard input".into(), Box::new(io::stdin()), batch)
        }
        (Some(path), _) => {
            let file =
                std::fs::File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            from_reader(path.display().to_string(), Box::new(io::BufReader::new(file)), batch)
        }
        (None, count) => made(count.unwrap_or_default(), send, batch),
    };
    let progress = progress(global, send.count);
    let began = Instant::now();
    let sent = block_on(post_all(client, bodies, send, &progress));
    progress.finish_and_clear();
    let (tally, failure) = sent?;
    summary(global, &url, &tally, began.elapsed())?;
    match failure {
        Some(failure) => Err(failure),
        None if tally.rejected > 0 => {
            let first = tally.first_reason.unwrap_or_default();
            Err(Failure::data(match tally.rejected {
                1 => format!("1 event was rejected: {first}"),
                more => format!("{more} events were rejected; the first: {first}"),
            }))
        }
        None => Ok(()),
    }
}

/// The `up` that runs this file, else the pipeline's first HTTP source, on this machine.
fn find(global: &Global) -> Result<String, Failure> {
    let nowhere = |whose: &str| Failure::usage(format!("{whose} has no HTTP source; --url URL says where to post"));
    let config = match file_or_running(global, "--url URL says where to post")? {
        Found::Running(Running { pipeline, http, .. }) => {
            return http.ok_or_else(|| nowhere(&format!("the running pipeline `{pipeline}`")));
        }
        Found::File(config) => config,
    };
    let pipeline = &config.pipeline.pipeline;
    let running = Running::find_of(pipeline, &global.file);
    let running = running.map_err(|other| Failure::usage(format!("{other}; --url URL says where to post")))?;
    if let Some(http) = running.and_then(|running| running.http) {
        return Ok(http);
    }
    let http = config.pipeline.stages.values().find_map(|stage| match stage.source.as_ref()? {
        Source::Ingest(ingest) => ingest.http.as_ref(),
        Source::Generate(_) | Source::Kafka(_) | Source::Own(_) => None,
    });
    let http = http.ok_or_else(|| nowhere(&format!("pipeline `{pipeline}`")))?;
    let port = http.listen.rsplit(':').next().unwrap_or("8080");
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://localhost:{port}{}", http.path))
}

/// Posts all bodies in order; stops at the first that can't be delivered.
async fn post_all(
    client: Client,
    bodies: Bodies,
    send: &Send,
    progress: &ProgressBar,
) -> Result<(Tally, Option<Failure>), Failure> {
    let began = tokio::time::Instant::now();
    let (mut tally, mut failure, mut events) = (Tally::default(), None, 0_u64);
    let mut posting: JoinSet<Result<Tally, Failure>> = JoinSet::new();
    // Input may come slowly (a pipe): it is read beside the runtime.
    let (to_post, mut ready) = tokio::sync::mpsc::channel::<Result<Body, Failure>>(2);
    let reading = tokio::task::spawn_blocking(move || {
        for body in bodies {
            if to_post.blocking_send(body).is_err() {
                return;
            }
        }
    });
    loop {
        let room = posting.len() < send.parallel as usize && failure.is_none();
        tokio::select! {
            body = ready.recv(), if room => match body {
                None => break,
                Some(Err(error)) => failure = Some(error),
                Some(Ok(body)) => {
                    if let Some(rate) = send.rate {
                        tokio::time::sleep_until(began + Duration::from_secs_f64(events as f64 / rate)).await;
                    }
                    events += body.events;
                    posting.spawn(client.clone().post(body, progress.clone()));
                }
            },
            Some(posted) = posting.join_next() => take(posted, &mut tally, &mut failure),
            else => break,
        }
    }
    drop(ready);
    while let Some(posted) = posting.join_next().await {
        take(posted, &mut tally, &mut failure);
    }
    // A reader that waits for a terminal's input ends with the process.
    reading.abort();
    Ok((tally, failure))
}

fn take(
    posted: Result<Result<Tally, Failure>, tokio::task::JoinError>,
    tally: &mut Tally,
    failure: &mut Option<Failure>,
) {
    match posted {
        Ok(Ok(one)) => tally.add(one),
        Ok(Err(error)) => *failure = Some(error),
        Err(error) => *failure = Some(Failure::software(error)),
    }
}

fn progress(global: &Global, count: Option<u64>) -> ProgressBar {
    if global.json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match count {
        Some(count) => {
            (ProgressBar::new(count), "{bar:30} {human_pos}/{human_len} events  {per_sec}  {eta} left  {msg}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} events  {per_sec}  {msg}"),
    };
    output::styled(bar, template)
}

fn summary(global: &Global, url: &str, tally: &Tally, took: Duration) -> Result<(), Failure> {
    let seconds = took.as_secs_f64();
    if global.json {
        return output::line(json!({
            "done": tally.done, "rejected": tally.rejected, "retries": tally.retries, "seconds": seconds, "first_reason": tally.first_reason, "url": url,
        }));
    }
    let rate = tally.done as f64 / seconds.max(0.001);
    output::line(format!(
        "{} done, {} rejected, {} repeated, {seconds:.1} s, {rate:.0} events/s, to {url}",
        output::counted(tally.done, "event"),
        tally.rejected,
        output::counted(tally.retries, "request"),
    ))
}

/// What one body's failure is called.
fn gave_up(text: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Unavailable, text)
}
