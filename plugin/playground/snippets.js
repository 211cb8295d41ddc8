// The request as curl, as Python and as TOML. Pure functions. No token of the user is ever in them.

const quoteShell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

// JSON with short lists and tables on one line.
function pretty(value, indent = "") {
  const flat = flatJson(value);
  if (flat.length + indent.length <= 96) return flat;
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    return `[\n${value.map((entry) => inner + pretty(entry, inner)).join(",\n")}\n${indent}]`;
  }
  if (typeof value === "object" && value !== null) {
    const lines = Object.entries(value).map(
      ([key, entry]) => `${inner}${JSON.stringify(key)}: ${pretty(entry, inner)}`,
    );
    return `{\n${lines.join(",\n")}\n${indent}}`;
  }
  return flat;
}

function flatJson(value) {
  if (Array.isArray(value)) return `[${value.map(flatJson).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    return `{${Object.entries(value)
      .map(([key, entry]) => `${JSON.stringify(key)}: ${flatJson(entry)}`)
      .join(", ")}}`;
  }
  return JSON.stringify(value);
}

export function curlOf({ path, body }, origin) {
  const json = quoteShell(pretty({ ...body, stream: true }));
  return `curl -N ${origin}${path} -H 'Content-Type: application/json' -d ${json}`;
}

// A value of JSON in Python.
function python(value, indent = "") {
  const flat = flatPython(value);
  if (flat.length + indent.length <= 96) return flat;
  const inner = `${indent}    `;
  if (Array.isArray(value)) {
    return `[\n${value.map((entry) => `${inner}${python(entry, inner)},\n`).join("")}${indent}]`;
  }
  if (typeof value === "object" && value !== null) {
    const lines = Object.entries(value).map(([key, entry]) => `${inner}${pythonText(key)}: ${python(entry, inner)},\n`);
    return `{\n${lines.join("")}${indent}}`;
  }
  return flat;
}

function flatPython(value) {
  if (Array.isArray(value)) return `[${value.map(flatPython).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    return `{${Object.entries(value)
      .map(([key, entry]) => `${pythonText(key)}: ${flatPython(entry)}`)
      .join(", ")}}`;
  }
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "string" ? pythonText(value) : String(value);
}

// JSON's escapes are valid in Python, except halves of surrogate pairs, which JSON.stringify escapes and Python refuses to print.
const pythonText = (text) => JSON.stringify(text.toWellFormed());

export function pythonOf({ path, body }, origin) {
  const { steering, ...rest } = body;
  const chat = path.includes("chat");
  const lines = Object.entries(rest).map(([key, value]) => `    ${key}=${python(value, "    ")},\n`);
  const extra = steering === undefined ? "" : `    extra_body={"steering": ${python(steering, "    ")}},\n`;
  const print = chat ? "answer.choices[0].message.content" : "answer.choices[0].text";
  return [
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${pythonText(`${origin}/v1`)}, api_key="unused")`,
    `answer = client.${chat ? "chat.completions" : "completions"}.create(`,
    `${lines.join("")}${extra})`,
    `print(${print})`,
  ].join("\n");
}

// A value of JSON in TOML, on one line. Vectors given by examples are left out.
function toml(value, key) {
  if (Array.isArray(value)) return `[${value.map((entry) => toml(entry)).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    if (key === "vector") return '"..."';
    return `{ ${Object.entries(value)
      .map(([key, entry]) => `${key} = ${toml(entry, key)}`)
      .join(", ")} }`;
  }
  // TOML does not allow character 127 in a text, and JSON does not escape it.
  return typeof value === "string"
    ? JSON.stringify(value.toWellFormed()).replaceAll("\u007f", "\\u007F")
    : String(value);
}

// The steering as a model's default in the server's configuration.
export function tomlOf(steering, model, several) {
  const vectors = steering?.vectors ?? [];
  if (vectors.length === 0) return "# No vector is in use: the model's default would be none.";
  const lines = ["[[steering.defaults]]"];
  if (several) lines.push(`model = ${toml(model)}`);
  if (steering.norm) lines.push(`norm = ${toml(steering.norm)}`);
  for (const use of vectors) {
    lines.push("", "[[steering.defaults.vectors]]");
    const inline = [use.vector, use.when?.vector].some((vector) => typeof vector === "object");
    if (inline)
      lines.push("# Examples can't stand in a default: find the vector, save it as a file, and name it here.");
    for (const [key, value] of Object.entries(use)) lines.push(`${key} = ${toml(value, key)}`);
  }
  return lines.join("\n");
}
