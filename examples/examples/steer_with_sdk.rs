//! Steers a model that was built with the mistralrs SDK. After `cargo xtask demo`:
//!
//! ```sh
//! cargo run --release --example steer_with_sdk
//! ```

use anyhow::Result;
use mistralrs::{ModelBuilder, RequestBuilder, TextMessageRole};
use steermap_plugin::{Library, SteeringSpec, VectorUse};

#[tokio::main]
async fn main() -> Result<()> {
    let model = ModelBuilder::new("models/smollm2-135m")
        .with_force_cpu()
        .build()
        .await?;

    let mut library = Library::default();
    library.load("happy", "target/demo/happy.toml")?;
    let spec = SteeringSpec::from(VectorUse::new("happy", 35.0).at_layers([14]));
    steermap_plugin::attach(model.inner(), None, &spec, &library)?;

    let question = "How was your day?";
    // The order matters: the deterministic sampler resets every other field.
    let request = || {
        RequestBuilder::new()
            .add_message(TextMessageRole::User, question)
            .set_deterministic_sampler()
            .set_sampler_max_len(48)
    };
    let steered = model.send_chat_request(request()).await?;
    steermap_plugin::detach(model.inner(), None)?;
    let unsteered = model.send_chat_request(request()).await?;

    println!("> {question}");
    for (name, answer) in [("unsteered", unsteered), ("steered", steered)] {
        println!(
            "{name}: {}",
            answer.choices[0].message.content.as_deref().unwrap_or_default()
        );
    }
    Ok(())
}
