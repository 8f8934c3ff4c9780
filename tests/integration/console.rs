//! The console of pipelines that run, in a real Chromium.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jaiminho_tests::{Client, Directory, Jaiminho, Page, eventually, free_port, skip_browser};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const JAEGER: &str = "http://jaeger.example:16686";

/// `publish` takes 200 events a second; `convert` rejects what has no value, and says of what.
const PIPELINE: &str = r#"version: 1
pipeline: shown
stages:
  ingest:
    source: { acknowledge: accepted, http: { listen: "127.0.0.1:PORT", path: /events } }
    log: { events: 1000 }
  convert:
    subscribe_to: [ingest]
    log: { events: 1000 }
    transform: { vrl: { inline: 'if !exists(.data.value) { abort "no value in " + (string(.data.name) ?? "it") }' } }
  publish:
    subscribe_to: [convert]
    rate: 200
    window: { max_demand: 200 }
    sink: { blackhole: {} }
  dead:
    subscribe_to: [convert.dead_letter]
    sink: { blackhole: {} }
"#;

/// A pipeline that runs, and its page.
struct Shown {
    directory: Directory,
    file: PathBuf,
    port: u16,
    up: Jaiminho,
    url: String,
}

impl Shown {
    async fn start(arguments: &[&str]) -> Self {
        let directory = Directory::new("console");
        let port = free_port();
        let file = directory.write("pipeline.yaml", &PIPELINE.replace("PORT", &port.to_string()));
        let up = Jaiminho::up(directory.path(), &file, arguments);
        let url = console_url(&up).await;
        Self { directory, file, port, up, url }
    }

    /// Posts as much as is taken until it is told to stop.
    fn load(&self) -> Arc<AtomicBool> {
        let (client, is_over) = (Client::new(self.port), Arc::new(AtomicBool::new(false)));
        let end = is_over.clone();
        tokio::spawn(async move {
            let events: Vec<Value> = (0..50).map(|number| json!({"value": number, "name": "load"})).collect();
            while !end.load(Ordering::Relaxed) {
                client.post("application/json", Value::from(events.clone()).to_string()).await.expect("an answer");
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        });
        is_over
    }
}

/// What `up` says of its console.
async fn console_url(up: &Jaiminho) -> String {
    eventually("the console's address", PATIENCE, || async {
        let log = up.child.log();
        let said = log.lines().find_map(|line| line.trim().strip_prefix("console "));
        said.map(|url| url.trim().to_owned()).ok_or(log)
    })
    .await
}

/// The text of the first element that a selector finds.
fn text(selector: &str) -> String {
    format!("(document.querySelector('{selector}')?.textContent ?? '')")
}

/// A stage of the graph.
fn node(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('.node')].find(node => node.querySelector('.name').textContent === '{name}')"
    )
}

/// Texts that stand out too little from what is behind them (WCAG AA), and how much they do.
const TOO_FAINT: &str = r"(() => {
  const parts = colour => colour.match(/[\d.]+/g).map(Number);
  const light = colour => parts(colour).slice(0, 3).map(part => part / 255)
    .map(part => (part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4))
    .reduce((sum, part, at) => sum + part * [.2126, .7152, .0722][at], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((parts(colour)[3] ?? 1) === 1) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].filter(child => child.nodeType === 3).map(child => child.data.trim()).join('');
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(element instanceof SVGElement ? style.fill : style.color), light(behind(element))];
    const ratio = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
    if (ratio < 4.5) found.push(`${own}: ${ratio.toFixed(2)}`);
  }
  return found;
})()";

const OVERFLOW: &str = "document.documentElement.scrollWidth > innerWidth || document.body.scrollWidth > innerWidth";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_live_what_holds_the_pipeline_up() {
    if skip_browser() {
        return;
    }
    let shown = Shown::start(&["--console", "127.0.0.1:0"]).await;
    let mut page = Page::open(&shown.url, (1280, 900), "light").await;
    page.until(&format!("parseFloat({}) === 0", text(".node .rate")), PATIENCE).await;
    let is_over = shown.load();
    page.until(&format!("parseFloat({}) > 100", text(".node .rate")), PATIENCE).await;
    page.until(&format!("{} === 'publish'", text("#limit .stage")), PATIENCE).await;
    page.until(&format!("{}.classList.contains('is-limit')", node("publish")), PATIENCE).await;
    page.until("document.querySelectorAll('.back.none').length > 0", PATIENCE).await;
    page.until(&format!(r"/\bin (1[5-9]\d|2[0-4]\d)\b/.test({})", text("#rate-now")), PATIENCE).await;
    pictures(&mut page).await;
    for (theme, width) in [("light", 1280), ("dark", 1280), ("dark", 400), ("light", 400)] {
        page.prefer(&[("prefers-color-scheme", theme)]).await;
        page.resize(width, 900).await;
        page.until(&format!("innerWidth === {width}"), PATIENCE).await;
        assert_eq!(page.value(TOO_FAINT).await, json!([]), "{theme} {width}");
        assert_eq!(page.value(OVERFLOW).await, false, "{theme} {width}");
    }
    page.prefer(&[("prefers-reduced-motion", "reduce")]).await;
    assert_eq!(page.value("document.getAnimations().length").await, 0);
    is_over.store(true, Ordering::Relaxed);
    assert_eq!(page.complaints(), [""; 0]);
    let elsewhere: Vec<_> = page.requests().iter().filter(|url| !url.starts_with(&shown.url)).collect();
    assert!(elsewhere.iter().all(|url| url.starts_with("data:")), "{elsewhere:?}");
    assert!(page.requests().len() > 5, "{:?}", page.requests());
}

/// For a person to look at: into `JAIMINHO_PICTURES`.
async fn pictures(page: &mut Page) {
    let Some(folder) = std::env::var_os("JAIMINHO_PICTURES") else { return };
    for theme in ["light", "dark"] {
        for width in [1280, 400] {
            page.prefer(&[("prefers-color-scheme", theme)]).await;
            page.resize(width, 900).await;
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            page.picture(&PathBuf::from(&folder).join(format!("console-{theme}-{width}.png"))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_send_is_shown_as_text_and_leads_to_its_trace() {
    if skip_browser() {
        return;
    }
    let shown = Shown::start(&["--console", "127.0.0.1:0", "--jaeger", JAEGER]).await;
    let mut page = Page::open(&format!("{}#stage=convert", shown.url), (1280, 900), "dark").await;
    page.until("document.querySelectorAll('#tap-output option').length > 1", PATIENCE).await;
    page.value("document.getElementById('tap-output').value = 'ingest'").await;
    page.value("document.getElementById('tap-button').click()").await;
    page.until(&format!("{}.includes('Waiting')", text("#tap-note")), PATIENCE).await;
    let hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>";
    let event = |id: &str, data: Value| {
        json!({"specversion": "1.0", "id": id, "source": "/test", "type": hostile,
               "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "data": data})
    };
    let client = Client::new(shown.port);
    let large = json!({"value": 1, "fill": "ä".repeat(100_000)});
    let events = json!([event("bad", json!({"name": hostile})), event("large", large)]).to_string();
    // A tap sees what comes after it has joined.
    let end = tokio::time::Instant::now() + PATIENCE;
    while page.value("document.querySelectorAll('#tap li').length < 2").await == true {
        assert!(tokio::time::Instant::now() < end, "the tap shows nothing");
        let answer = client.post("application/cloudevents-batch+json", events.clone()).await.expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    page.until(&format!("{}.includes('no value in {hostile}')", text("#rejections")), PATIENCE).await;
    page.value(
        "document.querySelectorAll('#rejections details, #tap details').forEach(details => { details.open = true; })",
    )
    .await;
    page.until("document.querySelectorAll('#rejections pre, #tap pre').length > 1", PATIENCE).await;
    assert_eq!(page.value("document.querySelectorAll('main img, main script, main iframe').length").await, 0);
    page.until("document.querySelector('#tap').textContent.includes('characters more are not shown')", PATIENCE).await;
    let longest =
        page.value("Math.max(...[...document.querySelectorAll('pre')].map(pre => pre.textContent.length))").await;
    assert!(longest.as_u64().is_some_and(|longest| longest <= 20_000), "{longest}");
    let trace = format!("{JAEGER}/trace/4bf92f3577b34da6a3ce929d0e0e4736");
    let links = page.value("[...document.querySelectorAll('#rejections a, #tap a')].map(link => link.href)").await;
    assert!(
        links.as_array().is_some_and(|links| links.len() > 1 && links.iter().all(|link| *link == trace)),
        "{links}"
    );
    assert_eq!(page.value(OVERFLOW).await, false);
    assert_eq!(page.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_is_enough() {
    if skip_browser() {
        return;
    }
    let shown = Shown::start(&["--console", "127.0.0.1:0"]).await;
    let mut page = Page::open(&shown.url, (400, 800), "light").await;
    page.until("document.querySelectorAll('.node').length === 4", PATIENCE).await;
    let focused = "document.activeElement.querySelector('.name')?.textContent ?? document.activeElement.id";
    for expected in ["", "pause", "ingest", "convert"] {
        page.press("Tab").await;
        assert_eq!(page.value(focused).await, expected);
        let seen = page.value("getComputedStyle(document.activeElement).outlineStyle").await;
        assert_ne!(seen, "none", "where the focus is, is seen: {expected}");
    }
    page.press("Enter").await;
    page.until(&format!("{}.startsWith('convert ')", text("#details-title")), PATIENCE).await;
    page.press("ArrowRight").await;
    page.until(&format!("{}.startsWith('dead ')", text("#details-title")), PATIENCE).await;
    assert_eq!(page.value(focused).await, "dead");
    assert_eq!(page.value(&format!("{}.getAttribute('aria-pressed')", node("dead"))).await, "true");
    page.press("p").await;
    page.until(&format!("{} === 'Go on'", text("#pause")), PATIENCE).await;
    page.press("t").await;
    assert_eq!(page.value(focused).await, "tap-output");
    assert_eq!(page.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_server_is_gone_says_so_and_goes_on_with_the_next() {
    if skip_browser() {
        return;
    }
    let address = format!("127.0.0.1:{}", free_port());
    let shown = Shown::start(&["--console", &address]).await;
    assert_eq!(shown.url, format!("http://{address}/"));
    let mut page = Page::open(&shown.url, (1280, 900), "light").await;
    page.until(&format!("{} === 'live'", text("#live")), PATIENCE).await;
    shown.up.child.kill();
    page.until(&format!("{}.startsWith('no answer since')", text("#live")), PATIENCE).await;
    let looks = page.value("Number(document.documentElement.dataset.looks)").await;
    let _next = Jaiminho::up(shown.directory.path(), &shown.file, &["--console", &address]);
    page.until(&format!("{} === 'live' && document.documentElement.dataset.looks > {looks}", text("#live")), PATIENCE)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pipeline_takes_a_free_port_for_its_console_and_says_so() {
    let address = format!("127.0.0.1:{}", free_port());
    let first = Shown::start(&["--console", &address]).await;
    let second = Shown::start(&["--console", &address]).await;
    assert_eq!(first.url, format!("http://{address}/"));
    assert_ne!(second.url, first.url);
    let log = second.up.child.log();
    assert!(log.contains(&address) && log.contains("--console"), "{log}");
    for shown in [first, second] {
        let answer = reqwest::get(format!("{}api/about", shown.url)).await.expect("an answer");
        let about: Value = serde_json::from_str(&answer.text().await.expect("text")).expect("JSON");
        assert_eq!(about["pipeline"], "shown");
        assert_eq!(about["outputs"][0], "ingest", "{about}");
    }
}
