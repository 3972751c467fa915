// The technician's page: asks the terminal how it stands, shows it, passes presses on. Everything is set as text.
import { words } from "/words.js";

const STATE_MS = 700;
const ASSIST_MS = 250;
const $ = (id) => document.getElementById(id);
let language = navigator.language.startsWith("zh") ? "zh" : "en";
let state = null;
let assisting = false;
let drawn = "";
let selfTest = null; // the last answer, to be told anew in the other language

const say = () => words[language];

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text; // a status that does not change is not read out again
}

async function ask(path, body) {
  const post = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, { ...post, credentials: "same-origin", cache: "no-store" });
  if (answer.status === 401 && path !== "/api/login") showLogin();
  return answer;
}

function view(name) {
  document.body.dataset.view = name;
}

function speak() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = say()[node.dataset.word];
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  }
  $("preview").alt = say().preview;
  drawn = "";
  if (state) draw();
  if (selfTest) showSelfTest();
}

// Login

let waiting = null;

async function showLogin(note = "") {
  stopAssist();
  state = null;
  view("login");
  set($("login-note"), note);
  try {
    const gate = await (await fetch("/api/login", { cache: "no-store" })).json();
    if (!gate.pin_set) set($("login-note"), say()["no-pin"]);
    if (gate.wait_s > 0) countDown(gate.wait_s);
  } catch {
    set($("login-note"), say().away);
  }
}

function countDown(seconds) {
  clearInterval(waiting);
  const until = Date.now() + 1000 * seconds;
  const tell = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    $("form").querySelector("button").disabled = left > 0;
    set($("login-note"), left > 0 ? say().wait(left) : "");
    if (left <= 0) clearInterval(waiting);
  };
  waiting = setInterval(tell, 1000);
  tell();
}

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const pin = $("pin").value;
  $("pin").value = "";
  try {
    const answer = await ask("/api/login", { pin });
    if (answer.status === 204) {
      set($("login-note"), "");
      await refresh();
      return;
    }
    const told = await answer.json();
    set($("login-note"), say().wrong);
    if (told.wait_s > 0) countDown(told.wait_s);
  } catch {
    set($("login-note"), say().away);
  }
});

// State

async function refresh() {
  try {
    const answer = await ask("/api/state");
    if (answer.status !== 200) return;
    state = await answer.json();
    $("offline").hidden = true;
    view("desk");
    draw();
  } catch {
    if (document.body.dataset.view === "desk") $("offline").hidden = false;
    else showLogin(say().away);
  }
}

function draw() {
  const now = JSON.stringify([language, { ...state, utc_s: 0 }]);
  drawFacts();
  if (now === drawn) return;
  drawn = now;
  const service = $("service");
  const fault = state.fault && state.fault !== "technician";
  service.className = `banner ${fault ? "fail" : state.held ? "warn" : ""}`;
  set(service, fault ? say().fault(state.fault) : state.held ? say().held : state.in_session ? say().session : say().ready);
  $("hold").textContent = state.held ? say().release : say().hold;
  $("examine").disabled = state.examining;
  $("export").hidden = !state.report;
  const count = (verdict) => state.checks.filter((check) => check.verdict === verdict).length;
  set($("progress"), state.examining ? say().examining(state.checks.length, state.count)
    : state.checks.length ? say().done(count("fail"), count("warn")) : "");
  $("checks").replaceChildren(...state.checks.map(checkCard));
}

function drawFacts() {
  const facts = say().facts;
  const value = (thing) => (thing === null ? say().unknown : String(thing));
  const link = say().link[state.link] + (state.link_detail && state.link !== "up" ? ` (${state.link_detail})` : "");
  const pairs = [
    [facts.site, state.site], [facts.terminal_id, `${state.terminal_id.slice(0, 8)}…`], [facts.software, state.software],
    [facts.link, link], [facts.pending, value(state.pending)], [facts.days_left, value(state.days_left)],
    [facts.ca_days_left, value(state.ca_days_left)],
    [facts.utc, new Date(1000 * state.utc_s).toISOString().slice(0, 19).replace("T", " ")],
  ];
  $("standing").replaceChildren(...pairs.flatMap(([name, text]) => [element("dt", "", name), element("dd", "", text)]));
}

function checkCard(check) {
  const card = element("li");
  card.dataset.verdict = check.verdict;
  card.dataset.name = check.name;
  const title = element("div", "title");
  title.append(element("span", "", check.title[language]), element("span", "mark", say().verdict[check.verdict]));
  card.append(title, element("p", "says", check.says[language]));
  if (check.todo && check.verdict !== "pass") card.append(element("p", "todo", check.todo[language]));
  return card;
}

$("examine").addEventListener("click", async () => {
  $("examine").disabled = true;
  const answer = await ask("/api/examine", {});
  if (answer.status === 409) set($("progress"), say().session);
  await refresh();
});

$("hold").addEventListener("click", async () => {
  await ask("/api/hold", { held: !state.held });
  await refresh();
});

$("logout").addEventListener("click", async () => {
  await ask("/api/logout", {});
  showLogin();
});

// The carrier

function showSelfTest() {
  const note = $("self-test-note");
  note.className = "verdict";
  note.dataset.verdict = selfTest.verdict;
  const todo = selfTest.todo ? ` ${selfTest.todo[language]}` : "";
  set(note, `${say().verdict[selfTest.verdict]}: ${selfTest.says[language]}${selfTest.verdict === "pass" ? "" : todo}`);
}

$("self-test").addEventListener("click", async () => {
  $("self-test").disabled = true;
  set($("self-test-note"), say().testing);
  try {
    const answer = await ask("/api/self-test", {});
    if (answer.status === 200) {
      selfTest = await answer.json();
      showSelfTest();
    }
  } finally {
    $("self-test").disabled = false;
  }
});

// Live focus

function stopAssist() {
  assisting = false;
  $("assist").setAttribute("aria-pressed", "false");
  $("live").hidden = true;
  $("preview").removeAttribute("src");
}

async function assist() {
  if (!assisting) return;
  try {
    const answer = await ask("/api/assist", {});
    if (answer.status === 200) {
      const told = await answer.json();
      $("figure").textContent = told.figure === null ? "–" : String(told.figure);
      $("best").textContent = told.best === null ? "" : say().best(told.best);
      $("meter").value = told.figure ?? 0;
      const todo = told.light.todo && told.light.verdict !== "pass" ? ` ${told.light.todo[language]}` : "";
      set($("light"), told.light.says[language] + todo);
    } else if (answer.status === 409) set($("light"), say().busy);
  } catch {
    $("offline").hidden = false;
  }
  if (assisting) setTimeout(assist, ASSIST_MS);
}

$("assist").addEventListener("click", () => {
  if (assisting) {
    stopAssist();
    return;
  }
  assisting = true;
  $("assist").setAttribute("aria-pressed", "true");
  $("live").hidden = false;
  $("preview").src = `/preview.mjpg?${Date.now()}`;
  assist();
});

// Log

async function showLog() {
  const list = $("log");
  const answer = await ask("/api/log");
  if (answer.status !== 200) return;
  const { lines } = await answer.json();
  list.replaceChildren(...lines.map(({ t, level, log, event, process, ...more }) => {
    const line = element("li", level);
    line.append(element("time", "", t.slice(11, 19)), document.createTextNode(`${log} ${event} `),
      document.createTextNode(Object.entries(more).map(([name, value]) => `${name}=${value}`).join(" ")));
    return line;
  }));
  list.scrollTop = list.scrollHeight;
}

$("show-log").addEventListener("click", async () => {
  const open = $("log").hidden;
  $("log").hidden = !open;
  $("show-log").setAttribute("aria-expanded", String(open));
  if (open) await showLog();
});

for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    language = button.dataset.language;
    speak();
  });
}

speak();
await refresh();
if (document.body.dataset.view === "wait") await showLogin();
setInterval(() => { if (document.body.dataset.view === "desk" && !document.hidden) refresh(); }, STATE_MS);
