//! Counts, doubles and prints, in three processes, each in a shell of its own, in any order:
//! `cargo run -p jaiminho --example three_processes -- counter`, the same with `doubler`, and with `printer`.

mod stages;

use std::time::Duration;

use jaiminho::{Grpc, Stage, Upstream};
use stages::{Counter, Doubler, Printer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let stage = args.next().unwrap_or_default();
    let port: u16 = args.next().map_or(Ok(7_101), |port| port.parse())?;
    let [counter, doubler] = [port, port + 1].map(|port| format!("127.0.0.1:{port}"));
    let grpc = Grpc::new().at("counter", [counter.as_str()]).at("doubler", [doubler.as_str()]);
    let running = match stage.as_str() {
        "counter" => grpc.listen(counter).start(Stage::producer("counter", Counter(0)).group("doubler")).await?,
        "doubler" => {
            let from = Upstream::new("counter").permanent();
            let stage = Stage::producer_consumer("doubler", Doubler).subscribe_to(from).group("printer");
            grpc.listen(doubler).start(stage).await?
        }
        "printer" => {
            let from = Upstream::new("doubler").permanent();
            grpc.start(Stage::consumer("printer", Printer).subscribe_to(from)).await?
        }
        _ => return Err("counter, doubler or printer? and a port, if you like".into()),
    };
    running.until_terminated(Duration::from_secs(25)).await?;
    Ok(())
}
