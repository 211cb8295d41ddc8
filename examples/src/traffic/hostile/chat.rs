//! Messages, images, and routes for other models.

use serde_json::{Value, json};

use super::draw::{HostileBody, HostileDraw};
use super::kind::{AllowedReply, HostileKind};

/// One white pixel.
const PIXEL: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";

pub(super) const KINDS: &[HostileKind] = &[
    HostileKind {
        name: "an ordinary chat",
        allowed: AllowedReply::Answer,
        content: |_| HostileBody::Chat(json!({})),
    },
    HostileKind {
        name: "no messages",
        allowed: AllowedReply::Answer,
        content: |_| HostileBody::Chat(json!({"messages": []})),
    },
    HostileKind {
        name: "odd messages",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let messages = draw.one_of(&[
                json!([{"role": "system", "content": "Be brief."}]),
                json!([{"role": "user", "content": ""}]),
                json!([{"role": "user"}]),
                json!([{"role": "", "content": "x"}]),
                json!([{"role": "{{ messages }}", "content": "{% for %}"}]),
                json!([{"role": "tool", "content": "x", "tool_call_id": "nobody"}]),
                json!([{"role": "user", "content": []}]),
                json!([{"role": "user", "content": [{"type": "text"}]}]),
                json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}]),
                json!("only a text"),
            ]);
            HostileBody::Chat(json!({"messages": messages}))
        },
    },
    HostileKind {
        name: "an image for a text model",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let url = draw.one_of(&[
                json!(PIXEL),
                json!("data:image/png;base64,AAAA"),
                json!("data:"),
                json!(""),
            ]);
            let image = json!({"type": "image_url", "image_url": {"url": url}});
            let text = json!({"type": "text", "text": draw.prompt()});
            HostileBody::Chat(json!({"messages": [{"role": "user", "content": [image, text]}]}))
        },
    },
    HostileKind {
        name: "images alone",
        allowed: AllowedReply::Answer,
        content: |_| {
            let image = json!({"type": "image_url", "image_url": {"url": PIXEL}});
            HostileBody::Chat(json!({"messages": [{"role": "user", "content": [image, image]}]}))
        },
    },
    HostileKind {
        name: "responses",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let prompt = draw.prompt();
            let input = draw.one_of(&[
                json!(prompt),
                json!([]),
                json!(""),
                json!([{"role": "user", "content": "x"}]),
            ]);
            let max_tokens = draw.one_of(&[json!(0), json!(3)]);
            raw(
                draw,
                "/v1/responses",
                json!({"input": input, "max_output_tokens": max_tokens}),
            )
        },
    },
    HostileKind {
        name: "responses to one that is gone",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let fields = json!({"input": "x", "previous_response_id": "resp_nobody", "max_output_tokens": 2});
            raw(draw, "/v1/responses", fields)
        },
    },
    HostileKind {
        name: "embeddings of a text model",
        allowed: AllowedReply::Answer,
        content: |draw| raw(draw, "/v1/embeddings", json!({"input": ["x", "y"]})),
    },
    HostileKind {
        name: "an image by a text model",
        allowed: AllowedReply::Answer,
        content: |draw| raw(draw, "/v1/images/generations", json!({"prompt": "x"})),
    },
    HostileKind {
        name: "speech by a text model",
        allowed: AllowedReply::Answer,
        content: |draw| {
            raw(
                draw,
                "/v1/audio/speech",
                json!({"input": "x", "response_format": "wav"}),
            )
        },
    },
];

/// A body with these fields and the model.
fn raw(draw: &HostileDraw, route: &'static str, mut fields: Value) -> HostileBody {
    fields["model"] = draw.model_name().into();
    HostileBody::Raw(route, fields.to_string().into_bytes())
}
