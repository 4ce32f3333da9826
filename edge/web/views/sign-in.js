/**
 * @file Signing in: by the development login where it exists, else with a pasted token.
 */
import { ApiError } from "../api.js";
import { h, icon } from "../dom.js";
import { signIn, signInWithToken } from "../session.js";

/**
 * @param {() => void} entered
 * @returns {import("../app.js").View}
 */
export function signInView(entered) {
  const error = h("p", { class: "form-error", role: "alert" });
  const name = h("input", { id: "user-name", name: "name", autocomplete: "name", "data-testid": "user-name", placeholder: "Ada Lovelace" });
  const userId = h("input", {
    id: "user-id", name: "userId", required: true, autocomplete: "username", pattern: "[A-Za-z0-9_.:@\\-]{1,128}",
    title: "letters, digits and _ . : @ -", "data-testid": "user-id", placeholder: "ada", autocapitalize: "off", spellcheck: "false",
  });
  const pasted = h("textarea", { id: "token", rows: 4, "data-testid": "token", spellcheck: "false", autocomplete: "off" });
  const submit = h("button", { class: "primary wide", "data-testid": "sign-in", text: "Sign in" });
  const login = h("div", { class: "fields" }, field("User id", userId), field("Name (optional)", name));
  const paste = h("div", { class: "fields", hidden: true }, field("Token", pasted, "This server has no development login. Paste a token that its operator gave you."));

  const enter = async () => {
    if (!paste.hidden) signInWithToken(pasted.value.trim());
    else await signIn(userId.value.trim(), name.value.trim());
    entered();
  };
  const failed = (/** @type {unknown} */ cause) => {
    if (cause instanceof ApiError && (cause.status === 404 || cause.status === 405) && paste.hidden) {
      [paste.hidden, login.hidden, userId.required] = [false, true, false];
      pasted.focus();
      return;
    }
    error.textContent = cause instanceof ApiError ? cause.detail : "Signing in did not work.";
  };
  const onsubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    error.textContent = "";
    submit.disabled = true;
    await enter().catch(failed);
    submit.disabled = false;
  };
  const intro = h("p", { class: "muted", text: "Record calls in the browser. What is recorded is kept here until the server has it safely on disk." });
  const mark = h("div", { class: "mark" }, icon("reel"));
  const form = h("form", { class: "card sign-in", onsubmit }, mark, h("h1", { text: "Welcome to Callreel" }), intro, login, paste, error, submit);
  return { title: "Sign in", element: form };
}

/**
 * @param {string} label
 * @param {HTMLElement} input
 * @param {string} [hint]
 */
export function field(label, input, hint) {
  if (hint) input.setAttribute("aria-describedby", `${input.id}-hint`);
  return h("div", { class: "field" }, h("label", { for: input.id, text: label }), input, hint && h("p", { class: "hint", id: `${input.id}-hint`, text: hint }));
}
