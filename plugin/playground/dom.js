// Makes elements without HTML in strings: all text is inserted as text.

const SVG = "http://www.w3.org/2000/svg";

// Makes an element. Keys that begin with "on" are listeners; "class", and names with a hyphen, are attributes; others are
// properties. `null` and `undefined` are left out.
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2).toLowerCase(), value);
    else if (key === "class") element.className = value;
    else if (key.includes("-") || !(key in element)) element.setAttribute(key, String(value));
    else element[key] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

export function button(label, onclick, props = {}) {
  return el("button", { type: "button", onclick, ...props }, label);
}

let count = 0;
export const newId = (prefix) => `${prefix}-${++count}`;

// A control with its label, and a hint that screen readers read with it.
export function field(label, control, { hint, wide } = {}) {
  control.id ||= newId("field");
  const parts = [el("label", { htmlFor: control.id }, label), control];
  if (hint) {
    const id = `${control.id}-hint`;
    control.setAttribute("aria-describedby", id);
    parts.push(el("p", { class: "hint", id }, hint));
  }
  return el("div", { class: wide ? "field wide" : "field" }, ...parts);
}

export function checkbox(label, checked, onchange, props = {}) {
  const input = el("input", { type: "checkbox", checked, onchange: () => onchange(input.checked), ...props });
  return el("label", { class: "check" }, input, el("span", {}, label));
}

// `options` are pairs of value and label.
export function select(options, value, onchange, props = {}) {
  const control = el("select", { onchange: () => onchange(control.value), ...props });
  setOptions(control, options, value);
  return control;
}

export function setOptions(control, options, value) {
  control.replaceChildren(
    ...options.map(([key, label]) => el("option", { value: key, selected: key === value }, label)),
  );
}

// A number. Invalid input is marked and not passed on; an empty field is passed on as `null` if `optional`.
export function numberInput(value, onchange, { optional = false, ...props } = {}) {
  const input = el("input", {
    type: "number",
    inputMode: "decimal",
    step: "any",
    autocomplete: "off",
    value: value ?? "",
    ...props,
    oninput() {
      const empty = input.value.trim() === "" && !input.validity.badInput;
      const good = empty ? optional : Number.isFinite(input.valueAsNumber);
      input.toggleAttribute("data-bad", !good);
      if (good) onchange(empty ? null : input.valueAsNumber);
    },
  });
  return input;
}

// Writes a value into a control unless the user is writing there.
export function show(control, value) {
  const text = String(value ?? "");
  if (document.activeElement !== control && control.value !== text) control.value = text;
}

// Shows `message` beneath a control, or removes it if empty. Screen readers announce it, and read it with the control.
export function setFieldError(control, message) {
  const place = control.closest(".field") ?? control.parentElement;
  let note = place.querySelector(":scope > .field-error");
  const described = (control.getAttribute("aria-describedby") ?? "").split(" ").filter((id) => id && id !== note?.id);
  if (!message) {
    note?.remove();
    control.removeAttribute("aria-invalid");
  } else {
    if (!note) {
      note = el("p", { class: "field-error", id: newId("error"), "aria-live": "polite" });
      place.append(note);
    }
    if (note.textContent !== message) note.textContent = message;
    described.push(note.id);
    control.setAttribute("aria-invalid", "true");
  }
  if (described.length > 0) control.setAttribute("aria-describedby", described.join(" "));
  else control.removeAttribute("aria-describedby");
}

// Shows the errors whose keys begin with `prefix` at the controls in `root` with that `data-field`; those that no control
// names are returned.
export function placeErrors(root, errors, prefix) {
  const left = new Map(Object.entries(errors).filter(([key]) => key.startsWith(prefix)));
  const taken = new Set();
  for (const control of root.querySelectorAll("[data-field]")) {
    const key = prefix + control.dataset.field;
    const message = taken.has(key) ? "" : (left.get(key) ?? "");
    if (message) taken.add(key);
    setFieldError(control, message);
  }
  return [...left].filter(([key]) => !taken.has(key)).map(([, message]) => message);
}

export function download(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// A table of texts: its heads, and the cells of each row. It may scroll sideways; `label` names the scrolled region.
export function table(label, head, rows) {
  const cells = (name, attributes, texts) => texts.map((text) => el(name, attributes, text));
  return el(
    "div",
    { class: "table-room", tabIndex: 0, role: "group", "aria-label": label },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, cells("th", { scope: "col" }, head))),
      el(
        "tbody",
        {},
        rows.map((row) => el("tr", {}, cells("td", {}, row))),
      ),
    ),
  );
}

// Copies `text`, and shows that on the button for a moment.
export async function copyText(text, trigger) {
  const label = trigger.textContent;
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    said = copyBySelection(text) ? "Copied" : "Copying failed";
  }
  trigger.textContent = said;
  setTimeout(() => (trigger.textContent = label), 1500);
}

// Without a secure connection there is no clipboard interface.
function copyBySelection(text) {
  const area = el("textarea", { class: "offscreen", value: text });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

// Calls `f` once no call has come for `ms`.
export function debounce(f, ms) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), ms);
  };
}
