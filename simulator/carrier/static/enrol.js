// The technician's page: reads a terminal's request, lets a person compare, shows the bundle as QR codes in turns.
"use strict";

const TURN_MS = 600; // each code: a terminal's camera looks at it several times
const SCAN_MS = 150;
const byId = (id) => document.getElementById(id);
let request = "";
let turning = 0; // the timer that shows the codes in turns

async function ask(path, body) {
  const answer = await fetch(path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.todo ? `${content.error}. What to do: ${content.todo}` : content.error);
  return content;
}

function tell(error) {
  byId("trouble").textContent = error ? error.message : "";
  byId("trouble").hidden = !error;
}

function compare(asked) {
  clearInterval(turning); // of the terminal before
  request = asked.request;
  byId("answer").disabled = false;
  byId("progress").textContent = "";
  byId("fingerprint").textContent = asked.fingerprint;
  byId("site").value = asked.site || "";
  const store = asked.key_store === "token" ? "in a security chip" : "in a file: less safe, and every result says so";
  const facts = [["terminal", asked.terminal], ["asks to", asked.purpose], ["result key", store],
    ["hardware", asked.hardware_model], ["software", asked.software_version]];
  byId("facts").replaceChildren(...facts.flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
  byId("step-compare").hidden = false;
  byId("step-carry").hidden = true;
  byId("h-compare").scrollIntoView();
}

function base64(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

async function openFile(event) {
  tell(null);
  try {
    const bytes = new Uint8Array(await event.target.files[0].arrayBuffer());
    compare(await ask("/api/requests", { request: base64(bytes) }));
  } catch (error) { tell(error); }
  event.target.value = ""; // the next terminal's file may have the same name
}

async function scan() {
  tell(null);
  try {
    const detector = new BarcodeDetector({ formats: ["qr_code"] });
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    const video = byId("video");
    video.srcObject = stream;
    video.hidden = false;
    await video.play();
    const parts = new Set();
    try {
      for (;;) {
        const before = parts.size;
        for (const found of await detector.detect(video)) parts.add(found.rawValue);
        if (parts.size > before) {
          const asked = await ask("/api/requests", { parts: [...parts] });
          if (asked.request) return compare(asked);
          byId("progress").textContent = `${asked.seen} of ${asked.total} parts`;
        }
        await new Promise((resolve) => setTimeout(resolve, SCAN_MS));
      }
    } finally {
      stream.getTracks().forEach((track) => track.stop());
      video.hidden = true;
    }
  } catch (error) { tell(error); }
  return undefined;
}

async function answer() {
  tell(null);
  byId("answer").disabled = true;
  try {
    const made = await ask("/api/enrolments", { request, site: byId("site").value });
    byId("code").textContent = made.code;
    byId("save").href = `data:application/octet-stream;base64,${made.bundle}`;
    byId("save").download = `${made.terminal}.vouch`;
    byId("step-carry").hidden = false;
    byId("h-carry").scrollIntoView();
    let turn = 0;
    const show = () => {
      byId("picture").src = made.pictures[turn];
      byId("place").textContent = `part ${turn + 1} of ${made.pictures.length}`;
      turn = (turn + 1) % made.pictures.length;
    };
    show();
    if (made.pictures.length > 1) turning = setInterval(show, TURN_MS);
  } catch (error) {
    byId("answer").disabled = false;
    tell(error);
  }
}

if (!("BarcodeDetector" in window)) byId("camera-row").hidden = true;
byId("file").addEventListener("change", openFile);
byId("camera").addEventListener("click", scan);
byId("answer").addEventListener("click", answer);
