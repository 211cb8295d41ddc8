//! The published engine, measured by the same workers as the patched one: `bench-stock MODEL` for prefill and decode,
//! `bench-stock MODEL serve` for many requests at once.

#[path = "../../examples/bench/model.rs"]
mod model;
#[path = "../../examples/bench/serve_worker.rs"]
mod serve_worker;
#[path = "../../examples/bench/worker.rs"]
mod worker;

use serve_worker::{Sending, Traffic};

/// Sends every request as it is.
struct Plain;

impl Traffic for Plain {
    fn mode(&mut self, mode: &str) {
        panic!("mode: found {mode:?}, expected none in this worker")
    }

    fn begin(&mut self, _: usize) {}

    fn send<'a>(&'a self, _: usize, send: Sending<'a>) -> Sending<'a> {
        send
    }
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().expect("the model's folder");
    let loaded = model::load(&folder).await;
    match args.next().as_deref() {
        Some("serve") => serve_worker::serve(&loaded, Plain).await,
        _ => worker::serve(&loaded, |line| panic!("line: found {line:?}, expected prefill or decode")).await,
    }
}
