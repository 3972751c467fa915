// The carrier's page: asks once a second, draws what changed. Everything is set as text, never as markup.
"use strict";

const POLL_MS = 1000;
const OUTCOME_CLASS = {
  "match": "good", "no-match": "bad", "liveness-fail": "bad",
  "allowed": "good", "review": "odd", "refused": "bad",
};
const REGISTRATION = { allowed: "may be registered", review: "staff-assisted: look twice", refused: "do not register" };
let version = "";
const open = new Set(); // results whose claims are unfolded

function element(tag, className, ...content) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...content);
  return node;
}

const badge = (text, kind) => element("span", `badge ${kind}`, text);
const soft = (text) => element("span", "soft", text);
const code = (text) => element("code", "", text);
const short = (hex) => `${hex.slice(0, 8)}…${hex.slice(-4)}`;
const time = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleTimeString() : "never");
const outcomeBadge = (outcome) => badge(outcome, OUTCOME_CLASS[outcome] || "odd");
const registrationBadge = (registration) => badge(REGISTRATION[registration], OUTCOME_CLASS[registration]);

function facts(pairs) {
  const list = element("dl", "");
  for (const [name, value] of pairs) list.append(element("dt", "", name), element("dd", "", value));
  return list;
}

function claimText(value) {
  if (value === null) return "not given";
  if (Array.isArray(value)) return value.length ? value.map(claimText).join(", ") : "none";
  if (typeof value === "object") return Object.values(value).map(claimText).join(" ");
  if (value === true) return "yes";
  if (value === false) return "no";
  return String(value);
}

function challengeText(records) {
  if (!Array.isArray(records)) return "unreadable";
  return records.map((record) => `${record.kind} ${record.ok ? "done" : "failed"}`).join(", ") || "none";
}

function orderText(result) {
  return result.order || (result.claims.fresh === "ticket" ? "an order not known here yet" : "unknown order");
}

function resultCard(result) {
  const claims = result.claims;
  const card = element("article", "card");
  card.append(element("div", "head",
    result.self_test ? badge("self-test", "odd") : outcomeBadge(claims.outcome || "unreadable"),
    element("strong", "", result.self_test ? "a technician's trial of the road" : orderText(result)),
    soft("signature valid"), result.self_test ? "" : registrationBadge(result.registration),
    element("span", "soft end", `counter ${result.counter} · ${time(result.received_at)}`)));
  if (claims.unreadable) card.append(element("p", "", "The record of these claims is damaged; the signed envelope is kept."));
  const came = result.times === 1 ? "once" : `${result.times} times`;
  const measured = [
    ["liveness", `${claims.pad}, band ${claims.pad_band} of 7`],
    ["comparison", claims.match === "not-run" ? "not run" : `${claims.match}, band ${claims.match_band} of 7`],
    ["challenges", challengeText(claims.challenges)],
    ["reasons", claimText(claims.reasons)],
  ];
  card.append(facts([
    ...(claims.unreadable ? [] : measured),
    ["receipt", `${result.receipts} sent · result came ${came} · ${result.bytes} bytes`],
  ]));
  if (result.alarms.length) card.append(element("p", "", ...result.alarms.map((kind) => badge(kind, "odd"))));
  const more = element("details", "", element("summary", "", "All claims"));
  more.open = open.has(result.digest);
  more.addEventListener("toggle", () => (more.open ? open.add(result.digest) : open.delete(result.digest)));
  const pairs = Object.entries(claims).map(([name, value]) => [name.replaceAll("_", " "), code(claimText(value))]);
  more.append(facts([...pairs, ["SHA-256 of the envelope", code(result.digest)]]));
  card.append(more);
  return card;
}

function terminalCard(terminal) {
  const card = element("article", "card");
  card.append(element("div", "head", element("strong", "", terminal.site), code(short(terminal.id)),
    element("span", "soft end", `${terminal.results} results, ${terminal.self_tests} self-tests · seen ${time(terminal.seen_at)}`)));
  if (terminal.status) {
    const pairs = Object.entries(terminal.status).map(([name, value]) => [name.replaceAll("_", " "), code(claimText(value))]);
    const more = element("details", "", element("summary", "", "Last status"), facts(pairs));
    more.open = open.has(terminal.id);
    more.addEventListener("toggle", () => (more.open ? open.add(terminal.id) : open.delete(terminal.id)));
    card.append(more);
  }
  return card;
}

function orderCard(order) {
  const answered = order.state === "answered";
  const state = answered && !order.self_test ? outcomeBadge(order.outcome) : badge(order.state, "odd");
  // A training run can be a match that registers nothing: the outcome never stands alone.
  const registration = answered && !order.self_test ? registrationBadge(order.registration) : "";
  return element("article", "card", element("div", "head", state, element("strong", "", order.order), registration,
    element("span", "soft end", time(order.issued_at))));
}

function alarmCard(alarm) {
  const kind = alarm.closed_at ? badge(`${alarm.kind}, closed`, "good") : badge(alarm.kind, "bad");
  return element("article", "card", element("div", "head", kind, code(short(alarm.terminal)),
    element("span", "soft end", time(alarm.at))), soft(alarm.detail));
}

function fill(id, items, draw, none) {
  const place = document.getElementById(id);
  place.replaceChildren(...(items.length ? items.map(draw) : [element("p", "none", none)]));
}

function showLink(text, kind) {
  const place = document.getElementById("link");
  place.textContent = text;
  place.className = `badge ${kind}`;
}

async function refresh() {
  try {
    const answer = await fetch(`/api/overview?version=${encodeURIComponent(version)}`);
    if (answer.status === 200) {
      const state = await answer.json();
      version = state.version;
      fill("results", state.results, resultCard, "No result yet.");
      fill("terminals", state.terminals, terminalCard, "No terminal is enrolled.");
      fill("orders", state.orders, orderCard, "No session was ordered.");
      fill("alarms", state.alarms, alarmCard, "No alarm.");
      const broker = `${state.broker.host}:${state.broker.port}`;
      showLink(state.broker.up ? `broker ${broker}` : `no broker at ${broker}`, state.broker.up ? "good" : "bad");
    } else if (answer.status !== 204) { // 204: nothing new
      version = "";
      showLink(`the carrier has an error (${answer.status}): what you see is old`, "bad");
    }
  } catch {
    version = "";
    showLink("the carrier does not answer: what you see is old", "bad");
  }
  setTimeout(refresh, POLL_MS);
}

refresh();
