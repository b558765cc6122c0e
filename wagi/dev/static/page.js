// Shows the events of the server as they arrive.

import {$, make, post} from "./dom.js";
import {applyFilter, keepRequests, openLinked, setProject, setServer, showRequest} from "./requests.js";
import {showRunning} from "./running.js";
import {setUpForm} from "./try.js";

const ACTIONS = {
  listed: (event) => keepRequests(event.keys),
  exchange: showRequest,
  project: (event) => setProject(event.options),
  running: (event) => showRunning(event.requests),
  routes: showRoutes,
  problem: showProblem,
  snapshots: ({states}) => showSnapshots(states),
};
let listed = [];
let snapshots = {};

function showRoutes({url, routes}) {
  setServer(url);
  if (url.startsWith("unix:")) $("server").removeAttribute("href");
  else $("server").href = url;
  listed = routes;
  showTable();
}

function showSnapshots(states) {
  snapshots = states;
  showTable();
}

function showTable() {
  $("routes").replaceChildren(...listed.map((row) => make("tr", {},
    make("td", {}, row.route), make("td", {}, row.module, snapshotOf(row)),
    make("td", {}, row.entrypoint))));
}

// Whether requests start from a snapshot of the module; the empty text without the key.
function snapshotOf({entry, snapshot}) {
  if (snapshot === undefined) return "";
  const text = snapshot || snapshots[entry] || "no snapshot yet";
  return make("small", {className: "snapshot"}, text);
}

function showProblem({text}) {
  $("problem-text").textContent = text;
  $("problem").hidden = !text;
}

function connect() {
  const events = new EventSource("events");
  events.onopen = () => { $("state").textContent = "live"; };
  events.onerror = () => { $("state").textContent = "disconnected"; };
  events.onmessage = ({data}) => {
    const event = JSON.parse(data);
    ACTIONS[event.type](event);
  };
}

$("filter").oninput = applyFilter;
$("failures").onchange = applyFilter;
$("clear").onclick = () => post("clear", {});
window.onhashchange = openLinked;
setUpForm();
connect();
