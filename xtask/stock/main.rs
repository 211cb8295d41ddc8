//! The published engine, measured by the same worker as the patched one.

#[path = "../../examples/bench/worker.rs"]
mod worker;

#[tokio::main]
async fn main() {
    let folder = std::env::args().nth(1).expect("the model's folder");
    let model = worker::load(&folder).await;
    worker::serve(&model, |line| panic!("{line:?} is nothing that a worker does")).await;
}
