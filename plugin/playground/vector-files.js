// A vector's files: saved from the server, or deleted on it.

import { request } from "./api.js";
import { download, setFieldError } from "./dom.js";

async function save(name, format) {
  const response = await request("GET", `/v1/steering/vectors/${encodeURIComponent(name)}?format=${format}`, {
    admin: true,
  });
  const named = /filename="([\w.-]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
  // The TOML names its tensors' file, so the names must stay.
  download(named?.[1] ?? `${name}.${format}`, await response.blob());
}

export async function saveVector(name, trigger) {
  setFieldError(trigger, "");
  try {
    await save(name, "toml");
    await save(name, "safetensors");
  } catch (error) {
    setFieldError(trigger, error.message);
  }
}

// The pairs of a card, as `mapper vector --pairs` reads them.
export function savePairs({ label, vector }) {
  const lines = vector.pairs.map((pair) => `${JSON.stringify(pair)}\n`);
  const name = label.replace(/[^\w.-]+/g, "-");
  download(`${name}.pairs.jsonl`, new Blob(lines, { type: "application/x-ndjson" }));
}

// The pairs in a file of JSON lines, as `mapper vector --pairs` reads them. Throws an error that names the line.
export function readPairs(text) {
  const pairs = [];
  text.split("\n").forEach((line, at) => {
    if (line.trim() === "") return;
    const wrong = (found) => new Error(`Line ${at + 1}: found ${found}, expected {"positive": "…", "negative": "…"}.`);
    let pair;
    try {
      pair = JSON.parse(line);
    } catch {
      throw wrong("no JSON");
    }
    for (const side of ["positive", "negative"]) {
      if (typeof pair?.[side] !== "string") throw wrong(`no text as ${side}`);
    }
    pairs.push({ positive: pair.positive, negative: pair.negative });
  });
  if (pairs.length === 0) throw new Error("The file has no pairs.");
  return pairs;
}

export async function removeVector(card, trigger, { remove, load }) {
  if (!confirm(`Delete the vector ${card.vector} from the server?`)) return;
  try {
    await request("DELETE", `/v1/steering/vectors/${encodeURIComponent(card.vector)}`, { admin: true });
    remove(card.id);
    await load();
  } catch (error) {
    setFieldError(trigger, error.message);
  }
}
