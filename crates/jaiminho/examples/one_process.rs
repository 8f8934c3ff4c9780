//! Counts, doubles and prints, in one process: `cargo run -p jaiminho --example one_process`.

mod stages;

use jaiminho::{Local, Stage, Upstream};
use stages::{Counter, Doubler, Printer};

#[tokio::main]
async fn main() {
    let local = Local::new();
    local.start(Stage::producer("counter", Counter(0)).group("doubler"));
    let from = Upstream::new("counter").permanent();
    local.start(Stage::producer_consumer("doubler", Doubler).subscribe_to(from).group("printer"));
    let from = Upstream::new("doubler").max_demand(100).permanent();
    local.start(Stage::consumer("printer", Printer).subscribe_to(from)).ended().await;
}
