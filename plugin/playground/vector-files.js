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
