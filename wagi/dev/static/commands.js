// Shell commands that repeat a request: curl and `wagi call`.

import {exactText} from "./dom.js";

// Set by the tools themselves.
const AUTOMATIC = new Set(["connection", "content-length", "expect", "host", "transfer-encoding"]);

export function quote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

export function curlCommand(request, server) {
  const words = ["curl", "-i"];
  const [origin, socket] = server.startsWith("unix:")
    ? ["http://localhost", server.slice("unix:".length)] : [server, ""];
  if (socket) words.push("--unix-socket", quote(socket));
  if (origin.startsWith("https:")) words.push("--insecure");
  if (request.target.includes("/.")) words.push("--path-as-is");
  if (/[[\]{}]/.test(request.target)) words.push("--globoff");
  words.push(...curlMethod(request), ...curlHeaders(request, origin));
  const [pipe, data] = bodyWords(request, "--data-binary", "--data-raw", () => true);
  return pipe + [...words, ...data, quote(origin + request.target)].join(" ");
}

// `options` select the route map.
export function wagiCommand(request, options) {
  const words = ["wagi", "call", ...options.map(quote), "-i", quote(request.method)];
  words.push(quote(request.target));
  for (const [name, value] of sentHeaders(request, true)) {
    words.push("-H", quote(`${name}: ${value}`));
  }
  if (hasBody(request) && !hasHeader(request, "Content-Type")) words.push("-H", "Content-Type:");
  const [pipe, data] = bodyWords(request, "-d", "-d", (text) => !text.startsWith("@"));
  return pipe + [...words, ...data].join(" ");
}

const hasHeader = ({headers}, name) =>
  headers.some(([other]) => other.toLowerCase() === name.toLowerCase());

const hasBody = (request) => Boolean(request.body) || hasHeader(request, "Content-Length");

function curlMethod(request) {
  if (request.method === "HEAD") return ["--head"];
  return request.method === (hasBody(request) ? "POST" : "GET") ? [] : ["-X", quote(request.method)];
}

function curlHeaders(request, origin) {
  const host = request.headers.find(([name]) => name.toLowerCase() === "host");
  const differs = host !== undefined && host[1] !== new URL(origin).host;
  const words = [];
  for (const [name, value] of sentHeaders(request, differs)) {
    words.push("-H", quote(value === "" ? `${name};` : `${name}: ${value}`));
  }
  // Without a value, a header that curl sets by itself is not sent.
  for (const name of ["User-Agent", "Accept", ...(hasBody(request) ? ["Content-Type"] : [])]) {
    if (!hasHeader(request, name)) words.push("-H", `${name}:`);
  }
  return words;
}

function sentHeaders({headers}, withHost) {
  return headers.filter(([name]) => {
    const lower = name.toLowerCase();
    return !AUTOMATIC.has(lower) || (lower === "host" && withHost);
  });
}

// The words for the body, and the command that pipes it in if it cannot be an argument.
function bodyWords(request, fileOption, textOption, canBeArgument) {
  if (!hasBody(request)) return ["", []];
  const {body} = request;
  const text = exactText(body);
  if (text !== null && canBeArgument(text)) return ["", [textOption, quote(text)]];
  return [`printf %s ${quote(body)} | base64 -d | `, [fileOption, "@-"]];
}
