//! A real Chromium without a window, driven over its DevTools protocol.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::{Child, Directory, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// Without a window, without a sandbox (tests run as root), and without a word to anybody on the network.
const OPTIONS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
];

/// Whether tests that need Chromium are left out: `tests/run` decides it.
pub fn skip_browser() -> bool {
    let skip = std::env::var_os("JAIMINHO_SKIP_BROWSER").is_some_and(|value| !value.is_empty());
    if skip {
        eprintln!("left out: no Chromium");
    }
    skip
}

/// One page. Dropping it ends the browser.
#[derive(Debug)]
pub struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    calls: u64,
    complaints: Vec<String>,
    requests: Vec<String>,
    _browser: Child,
    _profile: Directory,
}

impl Page {
    /// Opens `url` in a window of this size, in a light or a dark theme.
    pub async fn open(url: &str, (width, height): (u32, u32), theme: &str) -> Self {
        let profile = Directory::new("chromium");
        let mut command = Command::new("chromium");
        command.args(OPTIONS).arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let browser = Child::spawn("chromium", &command, &profile.path().join("chromium.log"));
        let port = eventually("chromium's port", PATIENCE, || async {
            let text = std::fs::read_to_string(profile.path().join("DevToolsActivePort"));
            let text = text.map_err(|error| format!("{error}\n{}", browser.log_tail()))?;
            text.lines().next().map(str::to_owned).ok_or_else(|| "empty".to_owned())
        })
        .await;
        let address = eventually("a page", PATIENCE, || async {
            let answer = reqwest::get(format!("http://127.0.0.1:{port}/json")).await;
            let text = answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())?;
            let pages: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
            let page = pages.as_array().and_then(|pages| pages.iter().find(|page| page["type"] == "page"));
            page.and_then(|page| page["webSocketDebuggerUrl"].as_str()).map(str::to_owned).ok_or(text)
        })
        .await;
        let (socket, _) = connect_async(address).await.expect("the page's debugger");
        let mut page = Self {
            socket,
            calls: 0,
            complaints: Vec::new(),
            requests: Vec::new(),
            _browser: browser,
            _profile: profile,
        };
        for domain in ["Runtime.enable", "Log.enable", "Network.enable", "Page.enable"] {
            page.call(domain, json!({})).await;
        }
        page.resize(width, height).await;
        page.prefer(&[("prefers-color-scheme", theme)]).await;
        page.call("Page.navigate", json!({"url": url})).await;
        page
    }

    /// Gives the window another size.
    pub async fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// What its user prefers, in place of what was said before, as `("prefers-color-scheme", "dark")`.
    pub async fn prefer(&mut self, features: &[(&str, &str)]) {
        let features: Vec<_> = features.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        self.call("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// The value of an expression. A promise is waited for.
    pub async fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", parameters).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub async fn until(&mut self, expression: &str, within: Duration) {
        let deadline = tokio::time::Instant::now() + within;
        while self.value(expression).await != json!(true) {
            if tokio::time::Instant::now() > deadline {
                let text = self.value("document.body.innerText").await;
                panic!("not within {within:?}: {expression}; complaints {:?}; the page says:\n{text}", self.complaints);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Presses a key, as `Tab`, `Enter`, `ArrowRight`, `p`.
    pub async fn press(&mut self, key: &str) {
        let text = match key {
            "Enter" => "\r",
            one if one.chars().count() == 1 => one,
            _ => "",
        };
        // Without its number, a key moves no focus.
        let number = match key {
            "Tab" => 9,
            "Enter" => 13,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let mut event = json!({"type": kind, "key": key, "code": key, "text": text});
            if number > 0 {
                event["windowsVirtualKeyCode"] = number.into();
            }
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// What the page has written to its console as an error, and exceptions that nobody caught.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// The URLs that the page has asked for.
    pub fn requests(&self) -> &[String] {
        &self.requests
    }

    /// A picture of the whole page, for a person.
    pub async fn picture(&mut self, file: &Path) {
        let size = self.call("Page.getLayoutMetrics", json!({})).await["cssContentSize"].clone();
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let options = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let answer = self.call("Page.captureScreenshot", options).await;
        let picture = BASE64.decode(answer["data"].as_str().unwrap_or_default()).expect("a picture");
        std::fs::write(file, picture).expect("write the picture");
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let call = json!({"id": self.calls, "method": method, "params": parameters});
        self.socket.send(Message::text(call.to_string())).await.expect("the browser hears");
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.unwrap_or_else(|_| panic!("{method}: no answer"));
            let Message::Text(text) = message.expect("the browser lives").expect("a message") else { continue };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        if event["method"] == "Network.requestWillBeSent" {
            self.requests.extend(parameters["request"]["url"].as_str().map(str::to_owned));
        }
        let is_complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                matches!(parameters["type"].as_str(), Some("error" | "warning" | "assert"))
            }
            Some("Log.entryAdded") => matches!(parameters["entry"]["level"].as_str(), Some("error" | "warning")),
            Some(_) | None => false,
        };
        if is_complaint {
            self.complaints.push(parameters.to_string());
        }
    }
}
