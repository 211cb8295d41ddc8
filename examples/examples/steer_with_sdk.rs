//! Steers a model that was built with the mistralrs SDK. After `cargo xtask demo`:
//!
//! ```sh
//! cargo run --release --example steer_with_sdk
//! ```

use anyhow::Result;
use mistralrs::{ModelBuilder, RequestBuilder, TextMessageRole};
use steermap_plugin::{Library, RequestSteering, Steering, VectorUse};

#[tokio::main]
async fn main() -> Result<()> {
    let model = ModelBuilder::new("models/smollm2-135m")
        .with_force_cpu()
        .build()
        .await?;

    let mut library = Library::default();
    library.load("happy", "target/demo/happy.toml")?;
    let steering = Steering::new(model.inner(), library)?;
    let happy = VectorUse::new("happy", 35.0).at_layers([14]);

    let question = "How was your day?";
    // The order matters: the deterministic sampler resets every other field.
    let messages = || {
        RequestBuilder::new()
            .add_message(TextMessageRole::User, question)
            .set_deterministic_sampler()
            .set_sampler_max_len(48)
    };
    let (steered, unsteered) = (
        steering.request(None, Some(&happy.into()))?,
        steering.request(None, Some(&RequestSteering::off()))?,
    );
    // Both at once, in one batch if possible.
    let (happy, plain) = tokio::try_join!(
        steered.scope(model.send_chat_request(messages())),
        unsteered.scope(model.send_chat_request(messages())),
    )?;

    println!("> {question}");
    for (name, answer) in [("unsteered", plain), ("steered", happy)] {
        println!(
            "{name}: {}",
            answer.choices[0].message.content.as_deref().unwrap_or_default()
        );
    }
    Ok(())
}
