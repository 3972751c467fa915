// The first boot: shows the terminal's request to its technician, and takes the one-time code; it decides nothing.
import { $, keys, text } from "/dom.js";

const TURN_MS = 2500; // a slow sequence: a telephone looks at each code several times
const KEYS = [..."1234567890⌫ABCDEFGHJKMNPQRSTVWXYZ"]; // Crockford's base 32: no letter that is misread
const SIZE = 12;
const SCENES = {
  "no-keys": "enrol-wait", request: "enrol-request", answer: "enrol-answer", code: "enrol-code",
  installing: "enrol-wait", installed: "enrol-wait",
};

export class Enrol {
  #send;
  #turn = 0;
  #timer;
  #shown = "";
  #scene = null;

  // `send(path, body)` tells the terminal.
  constructor(send) {
    this.#send = send;
    $("have-answer").onclick = () => send("/api/enrol/answer", { on: true });
    $("install").onclick = () => this.#install();
    $("code-back").onclick = () => send("/api/enrol/answer", { on: true });
    $("anew").onclick = () => send("/api/enrol/anew", {});
    $("code-field").addEventListener("input", () => this.#typed($("code-field").value));
    $("code-field").addEventListener("keydown", (event) => event.key === "Enter" && this.#install());
  }

  // The scene's name, words and picture; the rest of the page draws them.
  scene(w, { stage, fault }) {
    const name = SCENES[stage] ?? "enrol-wait";
    const [prompt, hint] = w.enrol[stage] ?? w.wait;
    const symbol = stage === "installed" ? "verified" : stage === "no-keys" ? "error" : "busy";
    const spoken = (name === "enrol-code" || name === "enrol-request") && fault ? this.trouble(w, { fault }) : hint;
    return { name, prompt, hint: spoken, symbol: name === "enrol-wait" ? symbol : null };
  }

  trouble(w, { fault, camera = true }) {
    if (fault) return w.enrol.fault[fault] ?? w.enrol.fault["not-installed"];
    return camera ? null : w.enrol.fault["no-camera"];
  }

  draw(w, view, scene) {
    const enrolment = view?.enrolment ?? null;
    $("enrol").hidden = scene !== "enrol-request";
    $("code-form").hidden = scene !== "enrol-code";
    $("parts").hidden = !(scene === "enrol-answer" && enrolment.total > 0);
    if (scene === "enrol-request") this.#request(w, enrolment);
    else clearInterval(this.#timer), (this.#shown = "");
    text("answer-detail", scene === "enrol-answer" ? enrolment.detail : "");
    if (scene === "enrol-answer") this.#parts(w, enrolment);
    if (scene === "enrol-code") this.#code(w, enrolment, scene !== this.#scene);
    this.#scene = scene;
  }

  #request(w, enrolment) {
    const [title] = w.enrol.request;
    text("enrol-title", title);
    text("enrol-trouble", this.trouble(w, enrolment) ?? "");
    text("have-answer", w.enrol.haveAnswer);
    const facts = [
      [w.enrol.fingerprint, enrolment.fingerprint.toUpperCase(), "large"],
      [w.enrol.terminal, enrolment.terminal.replace(/(.{8})(?=.)/g, "$1 ")],
      [w.enrol.software, `${enrolment.software} · ${enrolment.hardware_key ? w.enrol.chipKey : w.enrol.fileKey}`],
    ];
    list("enrol-facts", facts.flatMap(([name, value, kind]) => [["dt", name], ["dd", value, kind]]));
    list("enrol-steps", w.enrol.steps.map((step) => ["li", step]));
    const shown = `${enrolment.fingerprint} ${enrolment.parts} ${document.documentElement.lang}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#turn = 0;
    clearInterval(this.#timer);
    const next = () => {
      const number = (this.#turn % enrolment.parts) + 1;
      this.#turn += 1;
      $("request-code").src = `/enrol/request-${number}.svg?${enrolment.fingerprint}`;
      $("request-code").alt = w.enrol.picture;
      text("request-place", enrolment.parts > 1 ? w.enrol.part(number, enrolment.parts) : "");
    };
    next();
    if (enrolment.parts > 1) this.#timer = setInterval(next, TURN_MS);
  }

  #parts(w, { seen, total }) {
    $("bar").max = total || 1;
    $("bar").value = seen;
    $("bar").setAttribute("aria-label", w.enrol.parts(seen, total));
    text("parts-text", w.enrol.parts(seen, total));
  }

  #code(w, enrolment, entered) {
    const [title, note] = w.enrol.code;
    text("code-title", title);
    text("code-note", enrolment.detail ? "" : note);
    $("code-field").setAttribute("aria-label", w.enrol.codeLabel);
    const left = enrolment.fault === "wrong-code" ? ` ${w.enrol.left(enrolment.tries_left)}` : "";
    const trouble = this.trouble(w, { fault: enrolment.fault });
    text("code-error", trouble ? trouble + left : "");
    text("code-detail", enrolment.detail);
    $("code-field").setAttribute("aria-invalid", String(Boolean(enrolment.fault)));
    text("install", w.enrol.install);
    text("code-back", w.enrol.otherAnswer);
    text("anew", w.enrol.anew);
    keys($("code-keys"), KEYS, w, (name) => this.#typed(name === "⌫" ? bare().slice(0, -1) : bare() + name));
    if (!entered) return;
    $("code-field").value = "";
    $("install").disabled = true;
    $("code-field").focus();
  }

  // Groups of four, and the letters that look like digits as those digits: as the carrier writes its codes.
  #typed(written) {
    const letters = bare(written).slice(0, SIZE);
    $("code-field").value = letters.match(/.{1,4}/g)?.join("-") ?? "";
    $("install").disabled = letters.length !== SIZE;
  }

  #install() {
    if (bare().length === SIZE) this.#send("/api/enrol/code", { code: $("code-field").value });
  }
}

function bare(written = $("code-field").value) {
  return written.toUpperCase().replace(/O/g, "0").replace(/[IL]/g, "1").replace(/[^0-9A-HJKMNP-TV-Z]/g, "");
}

function list(id, rows) {
  const key = JSON.stringify(rows);
  if ($(id).dataset.key === key) return;
  $(id).dataset.key = key;
  $(id).replaceChildren(...rows.map(([tag, value, kind]) => {
    const element = document.createElement(tag);
    element.textContent = value;
    if (kind) element.className = kind;
    return element;
  }));
}
