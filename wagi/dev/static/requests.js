// The finished requests, the latest first. Details are made when an entry is opened.

import {curlCommand, quote, wagiCommand} from "./commands.js";
import {$, button, exactText, formatTime, make, post, textBlock, textOf} from "./dom.js";
import {fillForm, repeat} from "./try.js";

const ENTRIES_MAX = 200;
const entries = new Map();  // key -> {record, element}
let server = "";
let options = [];  // of wagi, that select the route map

export const setProject = (words) => { options = words; };
export const setServer = (url) => { server = url; };

export function showRequest(record) {
  if (entries.has(record.key)) return;  // after a reconnection, all are sent again
  const element = makeEntry(record);
  entries.set(record.key, {record, element});
  $("requests").prepend(element);
  if (entries.size > ENTRIES_MAX) removeRequest(entries.keys().next().value);
  applyFilter();
  openLinked();
}

// Removes all entries but those with the given keys.
export function keepRequests(keys) {
  const kept = new Set(keys);
  for (const key of [...entries.keys()]) if (!kept.has(key)) removeRequest(key);
  applyFilter();
}

function removeRequest(key) {
  entries.get(key).element.remove();
  entries.delete(key);
}

// Opens the entry that the address names, as the links of error pages do.
export function openLinked() {
  const id = location.hash.slice(1);
  const found = id && [...entries.values()].find(({record}) => encodeURIComponent(record.id) === id);
  if (!found || found.isLinked) return;
  found.isLinked = true;
  found.element.open = true;
  found.element.querySelector("summary").focus();
  found.element.scrollIntoView();
}

export function applyFilter() {
  const words = $("filter").value.toLowerCase().split(/\s+/);
  let count = 0;
  for (const {record, element} of entries.values()) {
    element.hidden = !matches(record, words);
    count += element.hidden ? 0 : 1;
  }
  $("none").hidden = entries.size > 0;
  $("count").textContent = count < entries.size ? `${count} of ${entries.size} requests` : "";
}

function matches(record, words) {
  if ($("failures").checked && !hasFailed(record)) return false;
  const text = [record.method, record.target, record.status, record.route, record.id,
                record.failure?.cause].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

const hasFailed = (record) => record.status >= 400 || record.status === 0 || Boolean(record.failure);

function makeEntry(record) {
  const status = make("span", {className: hasFailed(record) ? "bad" : "good"}, String(record.status || "no response"));
  const received = new Date(record.received * 1000).toISOString();
  const summary = make("summary", {},
    make("time", {dateTime: received}, formatTime(record.received)),
    ` ${record.method} ${record.target} → `, status, ` ${record.ms.toFixed(1)} ms`);
  if (record.failure) summary.append(make("span", {className: "why"}, record.failure.cause));
  const element = make("details", {}, summary);
  element.addEventListener("toggle", () => {
    if (element.open && element.children.length === 1) element.append(...makeDetails(record));
  });
  return element;
}

function makeDetails(record) {
  return [
    ...(record.failure ? [makeFailure(record.failure)] : []),
    ...makeWarnings(record.guest),
    makeActions(record),
    make("p", {className: "facts"}, facts(record)),
    ...texts(record).filter(([, text]) => text).flatMap(([title, text]) => textBlock(title, text)),
  ];
}

function makeFailure({cause, details, frames, library_frames: library, hint}) {
  const box = make("div", {className: "failure"}, make("p", {className: "cause"}, cause));
  for (const detail of details) box.append(make("p", {}, detail));
  if (frames.length) box.append(...textBlock("Functions", frames.join("\n")));
  if (hint) box.append(make("p", {}, `Hint: ${hint}`));
  if (library.length) box.append(makeLibraryFrames(library));
  return box;
}

function makeLibraryFrames(frames) {
  const title = `Library functions (${frames.length})`;
  const list = make("pre", {tabIndex: 0, role: "group", "aria-label": title}, frames.join("\n"));
  return make("details", {}, make("summary", {}, title), list);
}

function makeWarnings(guest) {
  return (guest?.warnings ?? []).map((text) => make("p", {className: "failure"}, `Warning: ${text}`));
}

function facts({id, route, module, cpu_ms: cpu, guest}) {
  const list = [`Route: ${route || "none"}`, `Module: ${module || "none"}`, `Request id: ${id}`];
  if (guest) {
    list.push(`CPU time: ${cpu.toFixed(2)} ms`, `End: ${guest.end}`,
              `Memory: ${guest.memory.toLocaleString("en")} bytes`, `argv: ${guest.argv.join(" ")}`);
  }
  return list.join(" · ");
}

function texts({headers, guest}) {
  const head = ["Request headers", headers.map((field) => field.join(": ")).join("\n")];
  if (!guest) return [head];
  return [
    ["stderr", guest.stderr],
    streamText("stdout", guest.stdout, guest.stdout_size),
    streamText("Request body", guest.stdin, guest.stdin_size),
    head,
    ["Variables", guest.variables.join("\n")],
  ];
}

function streamText(title, base64, size) {
  const text = textOf(base64);
  const shown = atob(base64).length;
  return [shown < size ? `${title} (the first ${shown} of ${size} bytes)` : title, text];
}

// Actions

function makeActions(record) {
  const output = make("pre", {tabIndex: 0, role: "group", "aria-label": "Result"});
  const status = make("p", {role: "status"});
  const show = (message, text = "") => {
    status.textContent = message;
    output.textContent = text;
  };
  const request = requestOf(record);
  const problem = unrepeatable(record);
  const guarded = (action) => () => (problem ? show(problem) : action());
  const copy = (text) => copyText(text, show);
  const row = make("div", {className: "actions", role: "group", "aria-label": "Actions"},
    button("Repeat", guarded(() => repeat(request))),
    button("Edit", guarded(() => edit(request, show))),
    button("Copy as curl", guarded(() => copy(curlCommand(request, server)))),
    button("Copy as wagi call", guarded(() => copy(wagiCommand(request, options)))));
  if (record.guest && !record.failure) row.append(...makeSaving(record, show));
  return make("div", {}, row, status, output);
}

function requestOf({method, target, headers, guest}) {
  return {method, target, headers, body: guest?.stdin ?? ""};
}

function unrepeatable({target, headers, guest}) {
  if (!target.startsWith("/")) return "this is not a request for a path";
  const length = headers.find(([name]) => name.toLowerCase() === "content-length")?.[1];
  const size = guest?.stdin_size ?? 0;
  const recorded = atob(guest?.stdin ?? "").length;
  if (recorded < size) return `only the first ${recorded} bytes of the request body were recorded`;
  if (length !== undefined && Number(length) !== size) return "the request body was not recorded";
  return "";
}

function edit(request, show) {
  if (exactText(request.body) === null) show("the body is not text: use Repeat");
  else fillForm(request);
}

async function copyText(text, show) {
  try {
    await navigator.clipboard.writeText(text);
    show("copied", text);
  } catch {
    show("the browser does not allow copying: select the command", text);
  }
}

function makeSaving(record, show) {
  const name = make("input", {value: suggestName(record), "aria-label": "Name of the case",
                              autocomplete: "off", spellcheck: false});
  const save = async () => {
    const {path, error} = await post("save", {key: record.key, name: name.value});
    show(error ? `not saved: ${error}` : `saved as ${path}: replay it with`,
         error ? "" : ["wagi test", ...options.map(quote), quote(path)].join(" "));
  };
  name.onkeydown = (event) => { if (event.key === "Enter") save(); };
  return [name, button("Save as a case", save)];
}

function suggestName({method, target}) {
  return `${method}-${target}`.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/-$/, "").slice(0, 60);
}
