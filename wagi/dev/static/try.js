// The form that sends a request to the server, and the response as it arrives.

import {$, exactText} from "./dom.js";

const CLOCK_INTERVAL_MS = 100;
// Of the connection, or set for each request anew.
const AUTOMATIC = new Set(["connection", "content-length", "expect", "transfer-encoding", "upgrade"]);
let current = null;  // the AbortController of the request that is being sent

export function setUpForm() {
  $("try").onsubmit = (event) => {
    event.preventDefault();
    send(Object.fromEntries(new FormData($("try"))));
  };
  $("stop").onclick = () => current?.abort();
}

// Sends a recorded request again: {method, target, headers, body (base64)}.
export function repeat({method, target, headers, body}) {
  send({method, path: target, headers: headerLines(headers), body_base64: body});
}

export function fillForm({method, target, headers, body}) {
  const form = $("try").elements;
  if (![...form.method.options].some((option) => option.text === method)) {
    form.method.add(new Option(method));
  }
  form.method.value = method;
  form.path.value = target;
  form.headers.value = headerLines(headers);
  form.body.value = exactText(body);
  form.type.value = "";  // if it has a type, that is in the headers
  form.path.focus();
  form.path.select();
}

function headerLines(headers) {
  return headers.filter(([name]) => !AUTOMATIC.has(name.toLowerCase()))
    .map((field) => field.join(": ")).join("\n");
}

async function send(fields) {
  current?.abort();
  const controller = new AbortController();
  current = controller;
  const clock = startAnswer();
  try {
    await receive(fields, controller.signal);
  } catch (error) {
    if (current === controller) setState(controller.signal.aborted ? "stopped" : String(error));
  }
  clearInterval(clock);
  if (current === controller) endAnswer();
}

function startAnswer() {
  const started = performance.now();
  const tick = () => {
    $("answer-time").textContent = `${((performance.now() - started) / 1000).toFixed(1)} s`;
  };
  $("answer").hidden = false;
  $("answer").setAttribute("aria-busy", "true");
  $("answer-head").textContent = $("answer-body").textContent = "";
  $("stop").hidden = false;
  setState("waiting for the response…");
  tick();
  return setInterval(tick, CLOCK_INTERVAL_MS);
}

function endAnswer() {
  if (document.activeElement === $("stop")) $("send").focus();
  $("stop").hidden = true;
  $("answer").setAttribute("aria-busy", "false");
  current = null;
}

function setState(text) {
  $("answer-state").textContent = text;
  $("answer-state").className = "";
}

function setError(text) {
  setState(text);
  $("answer-state").className = "bad";
}

async function receive(fields, signal) {
  const response = await fetch("try", {method: "POST", body: JSON.stringify(fields), signal});
  if (!response.ok) {
    setError((await response.json()).error);
    return;
  }
  let last = {};
  for await (const event of readLines(response.body)) {
    showEvent(event);
    last = event;
  }
  if (last.size === undefined && !last.error) setError("wagi serve has ended");
}

function showEvent(event) {
  if (event.error) {
    setError(event.error);
  } else if (event.status) {
    const lines = event.headers.map((field) => field.join(": "));
    $("answer-head").textContent = [`HTTP/1.1 ${event.status} ${event.reason}`, ...lines].join("\n");
    setState("receiving…");
  } else if (event.text !== undefined) {
    $("answer-body").append(event.text);
  } else {
    setState(`complete: ${event.size} bytes`);
  }
}

async function* readLines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines.map((line) => JSON.parse(line));
  }
}
