//! Grammars, schemas and tools, valid and broken.

use serde_json::{Value, json};

use super::draw::{HostileBody, HostileDraw};
use super::kind::{AllowedReply, HostileKind};

pub(super) const KINDS: &[HostileKind] = &[
    HostileKind {
        name: "response_format json_schema",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let schema = schema(draw);
            let format = json!({"type": "json_schema", "json_schema": {"name": "it", "schema": schema}});
            HostileBody::Chat(json!({"response_format": format}))
        },
    },
    HostileKind {
        name: "response_format of unknown type",
        allowed: AllowedReply::Refusal,
        content: |_| HostileBody::Chat(json!({"response_format": {"type": "poem"}})),
    },
    HostileKind {
        name: "grammar json_schema",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let schema = schema(draw);
            HostileBody::Completion(json!({"grammar": {"type": "json_schema", "value": schema}}))
        },
    },
    HostileKind {
        name: "grammar regex",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let regex = draw.one_of(&[
                json!("[a-z ]+"),
                json!("[0-9]{400}"),
                json!("("),
                json!("(?=x)y"),
                json!(""),
                json!("\u{0}"),
                json!("é+"),
                json!("[^\\x00-\\x{10FFFF}]"),
            ]);
            HostileBody::Completion(json!({"grammar": {"type": "regex", "value": regex}}))
        },
    },
    HostileKind {
        name: "grammar regex with large counts",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let regex = draw.one_of(&[json!("a{1,100000}"), json!("((a|b){1,1000}c){1,1000}")]);
            HostileBody::Completion(json!({"grammar": {"type": "regex", "value": regex}}))
        },
    },
    HostileKind {
        name: "grammar lark",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let lark = draw.one_of(&[
                json!("start: \"a\" | \"b\" start"),
                json!("start: start"),
                json!("start: ("),
                json!("no rule\r\nat all\r\n"),
                json!("start: nobody"),
                json!(""),
            ]);
            HostileBody::Completion(json!({"grammar": {"type": "lark", "value": lark}}))
        },
    },
    HostileKind {
        name: "grammar llguidance",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let value = draw.one_of(&[
                json!({"grammars": []}),
                json!({"grammars": [{"json_schema": {}}]}),
                json!({"grammars": [{"lark_grammar": "start: @nobody"}]}),
                json!({}),
            ]);
            HostileBody::Completion(json!({"grammar": {"type": "llguidance", "value": value}}))
        },
    },
    HostileKind {
        name: "grammar that nests",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let chain: String = (0..900).map(|rule| format!("r{rule}: r{}\n", rule + 1)).collect();
            let grammar = draw.one_of(&[
                json!({"type": "lark", "value": format!("start: r0\n{chain}r900: \"a\"\n")}),
                json!({"type": "regex", "value": format!("{}a{}", "(".repeat(3000), ")".repeat(3000))}),
            ]);
            HostileBody::Completion(json!({"grammar": grammar}))
        },
    },
    HostileKind {
        name: "grammar of 300 KB",
        allowed: AllowedReply::Refusal,
        content: |_| {
            let regex = "a".repeat(300 << 10);
            HostileBody::Completion(json!({"grammar": {"type": "regex", "value": regex}, "stream": false}))
        },
    },
    HostileKind {
        name: "grammar of a row that fails",
        allowed: AllowedReply::Answer,
        content: |_| {
            let grammar = json!({"type": "regex", "value": "[0-9]{400}"});
            HostileBody::Completion(json!({"grammar": grammar, "repetition_penalty": 1e-38, "temperature": 1}))
        },
    },
    HostileKind {
        name: "tools",
        allowed: AllowedReply::Answer,
        content: |draw| {
            let choice = draw.one_of(&[
                json!("auto"),
                json!("none"),
                json!("required"),
                tool("look", json!({"type": "object"})),
                tool("nobody", json!({})),
                json!(7),
            ]);
            let tools = draw.one_of(&[
                json!([]),
                json!([tool(
                    "look",
                    json!({"type": "object", "properties": {"at": {"type": "string"}}})
                )]),
                json!([tool("", json!({"type": 7})), tool("", json!({}))]),
            ]);
            HostileBody::Chat(json!({"tools": tools, "tool_choice": choice, "max_tokens": 20}))
        },
    },
    HostileKind {
        name: "tools of a completion",
        allowed: AllowedReply::Answer,
        content: |_| {
            let tools = json!([tool("look", json!({}))]);
            HostileBody::Completion(json!({"tools": tools, "tool_choice": "auto", "max_tokens": 20, "stream": true}))
        },
    },
];

fn schema(draw: &mut HostileDraw) -> Value {
    draw.one_of(&[
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
        json!({"type": "array", "items": {"enum": ["é", 1, null]}, "minItems": 3}),
        json!({"type": "nonsense"}),
        json!({"$ref": "#/nowhere"}),
        json!({"$ref": "#"}),
        json!({"enum": []}),
        json!({"type": "string", "pattern": "("}),
        json!({"type": "string", "minLength": 1_000_000_000, "maxLength": 1}),
        json!(true),
        json!(7),
    ])
}

fn tool(name: &str, parameters: Value) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "é", "parameters": parameters}})
}
