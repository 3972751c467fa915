// Shows the terminal's present state, whatever it is, and reports presses; the page decides nothing and keeps nothing.
import { words } from "/words.js";

const LANGUAGE = "en";
const RECONNECT_MS = 1500;
const PROMPTED = new Set(["turn-left", "turn-right", "blink", "mouth-open", "look-up"]);
const ARROWS = {
  "turn-left": "M164 226H88M122 184L86 226l36 42",
  "turn-right": "M476 226h76M518 184l36 42-36 42",
  "look-up": "M320 100V22M280 60l40-40 40 40",
};

const $ = (id) => document.getElementById(id);
let language = LANGUAGE;
let view = null;
let consentTexts = {};

function show() {
  const w = words[language];
  const [name, [prompt, hint]] = scene(w);
  document.documentElement.lang = language;
  document.body.dataset.view = name;
  set(document.body, "outcome", view?.outcome);
  set(document.body, "stage", name === "card" ? "card" : view?.preview && name !== "wait" ? "face" : null);
  text("prompt", prompt);
  const guidance = ["position", "challenge", "checking", "card"].includes(name) ? advice(w) : null;
  text("hint", guidance ?? hint);
  $("hint").classList.toggle("warn", guidance !== null && view.guidance !== "come-back");
  text("reference", name === "done" && view.reference ? `${w.reference}: ${view.reference}` : name === "out" ? view.fault ?? "" : "");
  text("time", name === "challenge" && view.time_left_s != null ? w.seconds(Math.ceil(view.time_left_s)) : "");
  picture(name);
  steps(name);
  consent(name === "consent" ? consentTexts[language] ?? "" : "");
  preview(document.body.dataset.stage !== undefined);
  $("ring").style.strokeDasharray = `${100 * (view?.progress ?? 0)} 100`;
  arrow(name === "challenge" ? ARROWS[view.action] : undefined);
  button("agree", w.agree, name === "consent");
  button("refuse", w.refuse, name === "consent");
  button("cannot", w.cannot, name === "challenge" && PROMPTED.has(view.action));
  button("cancel", w.cancel, ["card", "document", "position", "challenge", "checking"].includes(name));
  const trouble = view && w.link[view.link];
  $("link").hidden = !trouble;
  $("link").textContent = trouble ?? "";
  for (const b of document.querySelectorAll("[data-language]")) {
    b.setAttribute("aria-pressed", String(b.dataset.language === language));
  }
}

// Which scene the state is, and its words. A state that this page does not know is a wait, never a blank screen.
function scene(w) {
  if (view === null) return ["wait", w.wait];
  if (view.phase === "done") return ["done", w.outcome[view.outcome] ?? w.outcome.error];
  if (view.service === "out-of-service") return ["out", w.out];
  if (view.card !== null) return ["card", [w.document[0], w.card["no-card"]]];
  if (view.phase === "challenge") return ["challenge", PROMPTED.has(view.action) ? w[view.action] : w.straight];
  return w[view.phase] ? [view.phase, w[view.phase]] : ["wait", w.wait];
}

function advice(w) {
  if (view.card !== null) return w.card[view.card] ?? null;
  return view.guidance === null ? null : w.guidance[view.guidance] ?? null;
}

function picture(name) {
  const symbol =
    name === "challenge" ? (PROMPTED.has(view.action) ? view.action : "face")
    : name === "done" ? view.outcome
    : name === "card" || name === "document" ? "document"
    : name === "out" ? "error"
    : name === "idle" || name === "wait" ? "face" : null;
  const box = $("picture");
  if (box.dataset.symbol === String(symbol)) return;
  box.dataset.symbol = String(symbol);
  box.replaceChildren();
  if (symbol === null) return;
  const drawn = document.getElementById(symbol).cloneNode(true);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", drawn.getAttribute("viewBox"));
  svg.append(...drawn.childNodes);
  box.append(svg);
}

function steps(name) {
  const box = $("steps");
  const count = name === "challenge" ? view.steps : 0;
  const dots = Array.from({ length: count }, (_, i) => {
    const dot = document.createElement("i");
    dot.className = i + 1 < view.step ? "done" : i + 1 === view.step ? "now" : "";
    return dot;
  });
  box.replaceChildren(...dots);
}

function consent(whole) {
  const box = $("consent");
  if (box.dataset.text === whole) return;
  box.dataset.text = whole;
  box.replaceChildren(
    ...whole.split(/\n\n+/).filter(Boolean).map((paragraph) => {
      const p = document.createElement("p");
      p.textContent = paragraph;
      return p;
    }),
  );
}

function arrow(path) {
  const group = $("arrow");
  group.replaceChildren();
  if (!path) return;
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  group.append(line);
}

function preview(wanted) {
  const image = $("preview");
  if (wanted && !image.hasAttribute("src")) image.src = `/preview.mjpg?${Date.now()}`;
  if (!wanted && image.hasAttribute("src")) image.removeAttribute("src");
}

function text(id, value) {
  if ($(id).textContent !== value) $(id).textContent = value;
}

function set(element, name, value) {
  if (value === null || value === undefined) delete element.dataset[name];
  else element.dataset[name] = value;
}

function button(id, label, shown) {
  text(id, label);
  $(id).hidden = !shown;
}

function press(path, body) {
  fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }).catch(() => {});
}

function listen() {
  const events = new EventSource("/events");
  events.onmessage = (event) => {
    const before = view;
    view = JSON.parse(event.data);
    if (view.phase === "idle" && before !== null && before.phase !== "idle") language = LANGUAGE;
    show();
  };
  events.onerror = () => {
    view = null;
    show();
    if (events.readyState === EventSource.CLOSED) {
      events.close();
      setTimeout(listen, RECONNECT_MS);
    }
  };
}

async function loadConsent() {
  try {
    consentTexts = await (await fetch("/api/consent-text")).json();
    show();
  } catch {
    setTimeout(loadConsent, RECONNECT_MS);
  }
}

$("agree").onclick = () => press("/api/consent", { given: true, language });
$("refuse").onclick = () => press("/api/consent", { given: false, language });
$("cannot").onclick = () => press("/api/cannot", {});
$("cancel").onclick = () => press("/api/cancel", {});
for (const b of document.querySelectorAll("[data-language]")) {
  b.onclick = () => {
    language = b.dataset.language;
    show();
  };
}
show();
loadConsent();
listen();
