// Shows the terminal's present state, whatever it is, and reports presses; the page decides nothing and keeps nothing.
import { $, text } from "/dom.js";
import { Enrol } from "/enrol.js";
import { Panel } from "/panel.js";
import { Voice } from "/speech.js";
import { words } from "/words.js";

const RECONNECT_MS = 1500;
const LIVE_EACH_MS = 1000;
const PROMPTED = new Set(["turn-left", "turn-right", "blink", "mouth-open", "look-up"]);
const RUNNING = new Set(["consent", "card", "document", "position", "challenge", "checking"]);
const ARROWS = {
  "turn-left": "M172 226H106M136 190L100 226l36 36",
  "turn-right": "M468 226h66M504 190l36 36-36 36",
  "look-up": "M320 100V22M280 60l40-40 40 40",
};

let language = "en";
let view = null;
let consentTexts = {};
let whole = { key: "", left_s: 1 }; // the longest time seen for this movement: what the ring is a share of
let live = { text: "", due: 0, timer: null };
const voice = new Voice(show);
const panel = new Panel(show, staffSays);
const enrol = new Enrol(press);

function show() {
  const w = words[language];
  const scene = sceneOf(w);
  const guidance = advice(w, scene.name);
  document.documentElement.lang = language;
  document.body.dataset.view = scene.name;
  set(document.body, "outcome", scene.name === "done" ? view.outcome : null);
  set(document.body, "stage", stage(scene.name));
  if (panel.kind === "order" && (RUNNING.has(scene.name) || ["assist", "scan"].includes(scene.name) || view?.desk === "asking")) panel.close();
  if (panel.kind === "staff" && scene.name !== "assist") panel.close();
  panel.draw(w, view);
  enrol.draw(w, view, scene.name);
  text("prompt", scene.prompt);
  text("hint", guidance ?? scene.hint ?? "");
  $("hint").classList.toggle("warn", guidance !== null && view.guidance !== "come-back" && view.card !== "reading");
  picture(scene.symbol);
  steps(w, scene.name);
  time(w, scene.name);
  reference(w, scene.name);
  consent(scene.name === "consent" ? consentTexts[language] ?? "" : "");
  preview(document.body.dataset.stage !== undefined);
  $("ring").style.strokeDasharray = `${100 * (view?.progress ?? 0)} 100`;
  arrow(scene.name === "challenge" && view.guidance !== "come-back" ? ARROWS[view.action] : undefined);
  buttons(w, scene.name);
  header(w, scene.name);
  announce(guidance, scene, w);
  keepFocus();
}

// Which scene the state is, and its words. A state that this page does not know is a wait, never a blank screen.
function sceneOf(w) {
  const scene = (name, [prompt, hint], symbol) => ({ name, prompt, hint, symbol });
  if (view === null) return scene("wait", w.wait, "busy");
  if (view.enrolment) return enrol.scene(w, view.enrolment);
  if (view.phase === "done") return scene("done", w.outcome[view.outcome] ?? w.outcome.error, view.outcome ?? "error");
  if (view.service === "out-of-service") return scene("out", w.out, "error");
  if (view.scanning) return scene("scan", w.scan, "qr");
  if (view.card !== null) return scene("card", w.card, "document");
  if (view.phase === "challenge") {
    return PROMPTED.has(view.action) ? scene("challenge", w[view.action], view.action) : scene("challenge", w.straight, "face");
  }
  if (view.phase === "idle" && w.desk[view.desk]) {
    const [prompt, hint] = w.desk[view.desk];
    return scene("desk", [prompt(view.order), hint], view.desk === "asking" ? "busy" : "error");
  }
  const symbols = { idle: "welcome", document: "busy", assist: "staff-here", checking: "busy" };
  return w[view.phase] ? scene(view.phase, w[view.phase], symbols[view.phase] ?? null) : scene("wait", w.wait, "busy");
}

function advice(w, name) {
  if (name === "enrol-answer") return enrol.trouble(w, view.enrolment);
  if (name === "card") return w.cardView[view.card] ?? null;
  if (name === "scan") return view.desk === "wrong-code" ? w.wrongCode : null;
  if (!["position", "challenge", "checking"].includes(name) || view.guidance === null) return null;
  if (view.guidance === "come-back" && view.action === "mouth-open") return w.closeMouthAgain;
  return w.guidance[view.guidance] ?? null;
}

function stage(name) {
  if (!view?.preview || name === "wait") return null;
  return name === "card" ? "card" : name === "scan" || name === "enrol-answer" ? "code" : "face";
}

function picture(symbol) {
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

function steps(w, name) {
  $("steps").hidden = name !== "challenge";
  if (name !== "challenge") return;
  text("step-text", w.step(view.step, view.steps));
  const dots = Array.from({ length: view.steps }, (_, i) => {
    const dot = document.createElement("i");
    dot.className = i + 1 < view.step ? "done" : i + 1 === view.step ? "now" : "";
    return dot;
  });
  $("dots").replaceChildren(...dots);
}

// In the challenge the movement's time; elsewhere only when a wait comes to its end, with a way to get more.
function time(w, name) {
  const left_s = view?.time_left_s ?? null;
  const moving = name === "challenge" && PROMPTED.has(view.action) && left_s !== null;
  const key = moving ? `${view.step} ${view.action}` : "";
  if (key !== whole.key) whole = { key, left_s: left_s ?? 1 };
  whole.left_s = Math.max(whole.left_s, left_s ?? 0);
  $("left").style.strokeDasharray = `${moving ? (100 * left_s) / whole.left_s : 100} 100`;
  text("time", moving ? w.seconds(Math.ceil(left_s)) : "");
  const soon = left_s !== null && ["consent", "card", "document", "position", "assist"].includes(name);
  $("soon").hidden = !soon;
  if (soon) text("soon-text", w.seconds(Math.ceil(left_s)));
  text("more-time", w.moreTime);
}

function reference(w, name) {
  const box = $("reference");
  const shown = name === "done" ? view.reference : name === "out" ? view.fault : null;
  if (box.dataset.text === `${language} ${shown}`) return;
  box.dataset.text = `${language} ${shown}`;
  box.replaceChildren();
  if (!shown) return;
  const number = document.createElement("b");
  number.textContent = shown;
  box.append(name === "done" ? w.reference : w.fault, " ", number);
}

function consent(whole) {
  const box = $("consent");
  box.hidden = !whole;
  if (box.dataset.text === whole) return;
  box.dataset.text = whole;
  box.replaceChildren(
    ...whole.split(/\n\n+/).filter(Boolean).map((paragraph) => {
      const p = document.createElement("p");
      p.textContent = paragraph;
      return p;
    }),
  );
  box.scrollTop = 0;
}

function arrow(path) {
  const group = $("arrow");
  if ((group.firstChild?.getAttribute("d") ?? undefined) === path) return;
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

function buttons(w, name) {
  const dead = name === "desk" && view.desk !== "asking";
  button("agree", w.agree, name === "consent");
  button("refuse", w.refuse, name === "consent");
  button("cannot", w.cannot, name === "challenge" && PROMPTED.has(view.action));
  button("help", name === "consent" ? w.staffInstead : w.help, ["consent", "card", "document", "position"].includes(name));
  button("here", w.staffHere, name === "assist");
  button("again", w.again, dead && Boolean(view.order));
  button("cancel", w.cancel, RUNNING.has(name) && name !== "consent" || name === "assist");
  button("back", name === "enrol-answer" ? w.enrol.showRequest : w.back, dead || name === "scan" || name === "enrol-answer");
  $("buttons").hidden = ![...$("buttons").children].some((one) => !one.hidden);
}

function header(w, name) {
  const trouble = view && (view.enrolment ? w.enrol.banner : view.training ? w.training : w.link[view.link]);
  $("link").hidden = !trouble;
  text("link", trouble ?? "");
  const free = ["idle", "done", "desk"].includes(name) && view?.desk !== "asking";
  button("staff", free ? w.staff : w.callStaff, free || RUNNING.has(name));
  $("sound").hidden = !voice.speaks(language);
  $("sound").setAttribute("aria-pressed", String(voice.muted));
  $("sound").setAttribute("aria-label", w.mute);
  for (const b of document.querySelectorAll("[data-language]")) {
    b.setAttribute("aria-pressed", String(b.dataset.language === language));
  }
}

// What is heard: the voice at once, a screen reader at most once a second and only the newest; no countdown, no numbers.
function announce(guidance, scene, w) {
  if (panel.kind !== null) return;
  // Advice alone, but for what begins a movement anew: there its name belongs to it.
  const anew = scene.name === "challenge" && ["other-movement", "try-again", "too-early"].includes(view.guidance);
  const parts = anew ? [guidance, scene.prompt] : guidance ? [guidance] : [scene.prompt, scene.hint, $("soon").hidden ? "" : w.timeEnds];
  const said = parts.filter(Boolean).map((part) => part.replace(/[.。]$/, "")).join(w.stop);
  voice.say(said, language);
  if (said === live.text) return;
  live.text = said;
  clearTimeout(live.timer);
  const wait = Math.max(0, live.due - performance.now());
  live.timer = setTimeout(() => {
    live.due = performance.now() + LIVE_EACH_MS;
    $("live").textContent = live.text;
  }, wait);
}

// A focus whose button went away goes to the heading: the next Tab leads to the scene's first button.
function keepFocus() {
  const active = document.activeElement;
  if (active && active !== document.body && active.checkVisibility()) return;
  if (active && active !== document.body) $("prompt").focus({ preventScroll: true });
}

function set(element, name, value) {
  if (value === null || value === undefined) delete element.dataset[name];
  else element.dataset[name] = value;
}

function button(id, label, visible) {
  $(id).hidden = !visible;
  text(id, label);
}

async function press(path, body) {
  try {
    await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    // The terminal is away; its return is shown by the events.
  }
}

function staffSays(kind, yes, value) {
  if (kind === "order") press("/api/order", { order: value });
  else press("/api/staff", { vouches: yes, number: value });
}

function staffPressed() {
  const name = document.body.dataset.view;
  if (RUNNING.has(name)) press("/api/help", { by_clerk: true });
  else panel.open("order");
}

function listen() {
  const events = new EventSource("/events");
  events.onmessage = (event) => {
    const before = view;
    view = JSON.parse(event.data);
    if (before === null || (view.phase === "idle" && before.phase !== "idle")) language = view.language;
    show();
  };
  events.onerror = () => {
    view = null;
    panel.close();
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
$("help").onclick = () => press("/api/help", { by_clerk: false });
$("cancel").onclick = () => press("/api/cancel", {});
$("more-time").onclick = () => press("/api/more-time", {});
$("staff").onclick = staffPressed;
$("here").onclick = () => panel.open("staff");
$("again").onclick = () => press("/api/order", { order: view.order });
$("back").onclick = () => press(view?.enrolment ? "/api/enrol/answer" : "/api/scan", { on: false });
$("scan").onclick = () => press("/api/scan", { on: true });
$("sound").onclick = () => {
  voice.toggle();
  show();
};
for (const b of document.querySelectorAll("[data-language]")) {
  b.onclick = () => {
    language = b.dataset.language;
    show();
  };
}
show();
loadConsent();
listen();
