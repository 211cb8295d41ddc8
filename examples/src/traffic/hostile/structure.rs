//! Grammars, schemas and tools, right and broken.

use serde_json::{Value, json};

use super::draw::{Content, Draw};
use super::{Allowed, Kind};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "response_format json_schema",
        allowed: Allowed::Answer,
        content: |draw| {
            let schema = schema(draw);
            let format = json!({"type": "json_schema", "json_schema": {"name": "it", "schema": schema}});
            Content::Chat(json!({"response_format": format}))
        },
    },
    Kind {
        name: "response_format of no type",
        allowed: Allowed::Refusal,
        content: |_| Content::Chat(json!({"response_format": {"type": "poem"}})),
    },
    Kind {
        name: "grammar json_schema",
        allowed: Allowed::Answer,
        content: |draw| {
            let schema = schema(draw);
            Content::Completion(json!({"grammar": {"type": "json_schema", "value": schema}}))
        },
    },
    Kind {
        name: "grammar regex",
        allowed: Allowed::Answer,
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
            Content::Completion(json!({"grammar": {"type": "regex", "value": regex}}))
        },
    },
    Kind {
        name: "grammar regex with large counts",
        allowed: Allowed::Answer,
        content: |draw| {
            let regex = draw.one_of(&[json!("a{1,100000}"), json!("((a|b){1,1000}c){1,1000}")]);
            Content::Completion(json!({"grammar": {"type": "regex", "value": regex}}))
        },
    },
    Kind {
        name: "grammar lark",
        allowed: Allowed::Answer,
        content: |draw| {
            let lark = draw.one_of(&[
                json!("start: \"a\" | \"b\" start"),
                json!("start: start"),
                json!("start: ("),
                json!("no rule\r\nat all\r\n"),
                json!("start: nobody"),
                json!(""),
            ]);
            Content::Completion(json!({"grammar": {"type": "lark", "value": lark}}))
        },
    },
    Kind {
        name: "grammar llguidance",
        allowed: Allowed::Answer,
        content: |draw| {
            let value = draw.one_of(&[
                json!({"grammars": []}),
                json!({"grammars": [{"json_schema": {}}]}),
                json!({"grammars": [{"lark_grammar": "start: @nobody"}]}),
                json!({}),
            ]);
            Content::Completion(json!({"grammar": {"type": "llguidance", "value": value}}))
        },
    },
    Kind {
        name: "grammar that nests",
        allowed: Allowed::Answer,
        content: |draw| {
            let chain: String = (0..900).map(|rule| format!("r{rule}: r{}\n", rule + 1)).collect();
            let grammar = draw.one_of(&[
                json!({"type": "lark", "value": format!("start: r0\n{chain}r900: \"a\"\n")}),
                json!({"type": "regex", "value": format!("{}a{}", "(".repeat(3000), ")".repeat(3000))}),
            ]);
            Content::Completion(json!({"grammar": grammar}))
        },
    },
    Kind {
        name: "grammar of 300 KB",
        allowed: Allowed::Refusal,
        content: |_| {
            let regex = "a".repeat(300 << 10);
            Content::Completion(json!({"grammar": {"type": "regex", "value": regex}, "stream": false}))
        },
    },
    Kind {
        name: "grammar of a row that fails",
        allowed: Allowed::Answer,
        content: |_| {
            let grammar = json!({"type": "regex", "value": "[0-9]{400}"});
            Content::Completion(json!({"grammar": grammar, "repetition_penalty": 1e-38, "temperature": 1}))
        },
    },
    Kind {
        name: "tools",
        allowed: Allowed::Answer,
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
            Content::Chat(json!({"tools": tools, "tool_choice": choice, "max_tokens": 20}))
        },
    },
    Kind {
        name: "tools of a completion",
        allowed: Allowed::Answer,
        content: |_| {
            let tools = json!([tool("look", json!({}))]);
            Content::Completion(json!({"tools": tools, "tool_choice": "auto", "max_tokens": 20, "stream": true}))
        },
    },
];

fn schema(draw: &mut Draw) -> Value {
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
