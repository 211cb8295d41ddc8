// The dialog that asks for the admin token.

import { token } from "./api.js";
import { button, el, field } from "./dom.js";

// Shows the dialog until a token is entered (true) or the dialog is closed (false). The token stays in this tab's session storage.
export function askForToken(wrong) {
  const dialog = document.getElementById("token-dialog");
  const input = el("input", { type: "password", autocomplete: "off", required: true, spellcheck: false });
  const place = field("Token", input, { hint: "It stays in this tab, and is sent to this server only." });
  if (wrong) {
    place.append(el("p", { class: "field-error", role: "alert" }, "The server does not accept this token."));
    input.setAttribute("aria-invalid", "true");
  }
  return new Promise((resolve) => {
    let given = false;
    const submit = () => {
      if (input.value === "") return input.focus();
      token.set(input.value);
      given = true;
      dialog.close();
    };
    const form = el(
      "div",
      {
        onkeydown(event) {
          if (event.key === "Enter" && event.target === input) submit();
        },
      },
      el("h2", { id: "token-title" }, "This server needs a token"),
      el("p", {}, "It is the token in the server's ", el("code", {}, "[steering.admin]"), "."),
      place,
      el(
        "div",
        { class: "row end" },
        button("Not now", () => dialog.close(), { class: "quiet" }),
        button("Use it", submit, { class: "primary" }),
      ),
    );
    dialog.replaceChildren(form);
    dialog.addEventListener("close", () => resolve(given), { once: true });
    if (!dialog.open) dialog.showModal();
    input.focus();
  });
}
