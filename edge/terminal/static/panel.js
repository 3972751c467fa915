// The clerk's panel: a field, keys for fingers, and what was finished; it opens by a press and closes by itself.
import { $, keys } from "/dom.js";

const IDLE_MS = 60_000;
const DIGITS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "ABC", "0", "⌫"];
const LETTERS = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ-/.", "123", "⌫"];
const ORDER = /^[A-Za-z0-9]([A-Za-z0-9._/-]{0,30}[A-Za-z0-9])?$/;
const STAFF = /^[A-Za-z0-9]{1,16}$/;

export class Panel {
  kind = null; // null, "order" or "staff"
  #letters = false;
  #error = false;
  #timer;
  #changed;
  #send;

  // `send(kind, yes, value)`: the clerk's word. `changed`: draw again.
  constructor(changed, send) {
    this.#changed = changed;
    this.#send = send;
    $("field").addEventListener("input", () => this.#touched());
    $("field").addEventListener("keydown", (event) => event.key === "Enter" && this.#submit(true));
    $("panel").addEventListener("keydown", (event) => event.key === "Escape" && this.close());
    $("start").onclick = () => this.#submit(true);
    $("decline").onclick = () => this.#submit(false);
    $("close").onclick = () => this.close();
  }

  open(kind) {
    this.kind = kind;
    this.#letters = false;
    this.#error = false;
    $("field").value = "";
    this.#changed();
    $("field").focus();
    this.#touched();
  }

  close() {
    if (this.kind === null) return;
    this.kind = null;
    clearTimeout(this.#timer);
    this.#changed();
    $("staff").focus();
  }

  draw(w, view) {
    const open = this.kind !== null;
    $("panel").hidden = !open;
    document.body.toggleAttribute("data-panel", open);
    if (!open) return;
    const words = w.panel[this.kind];
    $("panel-title").textContent = words.title;
    $("panel-note").textContent = this.kind === "staff" ? words.note : view.link === "up" ? words.online : words.offline(view.tickets);
    $("field-label").textContent = words.field;
    $("field-error").textContent = this.#error ? words.wrong : "";
    $("field").setAttribute("aria-invalid", String(this.#error));
    $("start").textContent = words.yes;
    $("decline").textContent = words.no ?? "";
    $("scan").textContent = words.scan ?? "";
    $("close").textContent = w.back;
    this.#drawKeys(w);
    this.#drawFinished(w, this.kind === "order" ? view.finished : []);
  }

  #submit(yes) {
    const value = $("field").value.trim();
    this.#error = !(this.kind === "staff" ? STAFF : ORDER).test(value);
    this.#touched();
    if (this.#error) {
      $("field").focus();
      this.#changed();
      return;
    }
    this.#send(this.kind, yes, value);
  }

  #touched() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.close(), IDLE_MS);
  }

  #drawKeys(w) {
    const box = $("keys");
    box.classList.toggle("letters", this.#letters);
    keys(box, this.#letters ? LETTERS : DIGITS, w, (name) => this.#press(name));
  }

  #press(name) {
    const field = $("field");
    this.#touched();
    if (name === "ABC" || name === "123") {
      this.#letters = name === "ABC";
      this.#changed();
      return;
    }
    if (name === "⌫") field.value = field.value.slice(0, -1);
    else if (field.value.length < field.maxLength) field.value += name;
  }

  #drawFinished(w, finished) {
    const box = $("finished");
    const text = JSON.stringify([finished, document.documentElement.lang]);
    if (box.dataset.text === text) return;
    box.dataset.text = text;
    box.replaceChildren();
    if (!finished.length) return;
    const table = document.createElement("table");
    table.createCaption().textContent = w.finished;
    for (const one of finished) {
      const row = table.insertRow();
      for (const cell of [one.reference, w.short[one.outcome], one.order]) row.insertCell().textContent = cell;
    }
    box.append(table);
  }
}
