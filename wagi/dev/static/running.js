// The requests in flight, each with a button that cancels it.

import {$, button, make, post} from "./dom.js";

const shown = new Map();  // key -> {record, item, time, clock}

export function showRunning(requests) {
  const keys = new Set(requests.map((record) => record.key));
  for (const key of [...shown.keys()]) if (!keys.has(key)) remove(key);
  for (const record of requests) update(record);
  $("in-flight").hidden = shown.size === 0;
}

// Items are kept as long as their requests run, so that a button keeps the focus.
function update(record) {
  if (!shown.has(record.key)) add(record);
  const entry = shown.get(record.key);
  entry.record = record;
  tick(entry);
}

function add(record) {
  const time = make("span");
  const name = `${record.method} ${record.target}`;
  const cancel = button("Cancel", () => cancelRequest(record.key, cancel));
  cancel.setAttribute("aria-label", `Cancel ${name}`);
  const item = make("li", {}, make("code", {}, name), time, cancel);
  $("running").append(item);
  shown.set(record.key, {record, item, time});
}

function remove(key) {
  const {item} = shown.get(key);
  const hadFocus = item.contains(document.activeElement);
  item.remove();
  shown.delete(key);
  if (hadFocus) ($("running").querySelector("button") ?? $("filter")).focus();
}

function tick({record, time}) {
  const seconds = Math.max(0, Date.now() / 1000 - record.received).toFixed(1);
  const state = record.is_running
    ? `CPU ${(record.cpu_ms / 1000).toFixed(1)} s` : "waiting to start";
  time.textContent = `${seconds} s, ${state}`;
}

async function cancelRequest(key, cancel) {
  cancel.onclick = null;  // a disabled button would lose the focus
  cancel.textContent = "Cancelling…";
  const {error} = await post("cancel", {key});
  if (error) cancel.textContent = error;
}
