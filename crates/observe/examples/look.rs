//! A pipeline that nobody runs, to work on `top` and on the console: `cargo run -p jaiminho-observe --example look -- top`, or
//! `-- console 127.0.0.1:9470`.

#[path = "../src/fixture.rs"]
mod fixture;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use jaiminho_observe::top::{self, App, Theme};
use jaiminho_observe::{About, Console, TapEvents, TapRequest, Taps, View, router};
use serde_json::json;
use tokio::sync::watch;

/// Makes an event up four times a second.
struct MadeUp;

impl Taps for MadeUp {
    fn tap(&self, request: TapRequest) -> BoxFuture<'_, Result<TapEvents, String>> {
        Box::pin(async move {
            let event = move |number: u64| {
                json!({
                    "specversion": "1.0", "id": format!("{number}"), "type": request.output, "source": "/look",
                    "traceparent": format!("00-{number:032x}-{number:016x}-01"), "data": { "value": number },
                })
            };
            let events = stream::unfold(1, move |number| {
                let event = event(number);
                async move {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    Some((Ok(event), number + 1))
                }
            });
            Ok(events.boxed())
        })
    }
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> std::io::Result<()> {
    let (sender, views) = watch::channel(Arc::<View>::default());
    tokio::spawn(async move {
        for second in 0.. {
            let mut view = fixture::view(second);
            view.unix_ms = unix_ms();
            sender.send_replace(Arc::new(view));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("console"), Some(address)) => console(views, &address).await,
        (_, _) => {
            let app = App::new(Theme::new(std::env::var("NO_COLOR").ok().as_deref()));
            tokio::task::spawn_blocking(|| top::show(app, views, || false)).await?
        }
    }
}

async fn console(views: watch::Receiver<Arc<View>>, address: &str) -> std::io::Result<()> {
    let about = About {
        pipeline: "eugenio".into(),
        version: "0.1.0".into(),
        jaeger: Some("http://localhost:16686".into()),
        outputs: ["ingest", "convert", "convert.dead_letter", "publish.dead_letter"].map(Into::into).into(),
    };
    let history = Box::new(|| {
        let mut history = fixture::history(0);
        let shift = unix_ms() - history.unix_ms.last().copied().unwrap_or_default();
        history.unix_ms.iter_mut().for_each(|time| *time += shift);
        serde_json::to_vec(&history).unwrap_or_default().into()
    });
    let router = router(Console { about, views, history, taps: Box::new(MadeUp), is_local: true });
    axum::serve(tokio::net::TcpListener::bind(address).await?, router).await
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}
