// Requests the URL in the query and passes the response on: /ask?https://api.example.com/
//
// The key allowed_hosts in modules.toml lists the hosts that a handler may call.
//
//     npx asc ask.ts --config node_modules/@assemblyscript/wasi-shim/asconfig.json --outFile ask.wasm

// @ts-ignore: decorator
@external("wasi_experimental_http", "req")
declare function httpReq(
  url: usize, urlLength: usize, method: usize, methodLength: usize,
  headers: usize, headersLength: usize, body: usize, bodyLength: usize,
  status: usize, handle: usize,
): u32;

// @ts-ignore: decorator
@external("wasi_experimental_http", "body_read")
declare function httpBodyRead(handle: u32, buffer: usize, length: usize, count: usize): u32;

// @ts-ignore: decorator
@external("wasi_experimental_http", "close")
declare function httpClose(handle: u32): u32;

const url = String.UTF8.encode(process.env.get("QUERY_STRING"));
const method = String.UTF8.encode("GET");
const headers = String.UTF8.encode("x-from:assemblyscript\n");
const status = memory.data(2, 2);
const handle = memory.data(4, 4);
const count = memory.data(4, 4);

let failure = httpReq(
  changetype<usize>(url), url.byteLength, changetype<usize>(method), method.byteLength,
  changetype<usize>(headers), headers.byteLength, 0, 0, status, handle,
);
const code: u32 = failure == 0 ? load<u16>(status) : 502;
process.stdout.write("Content-Type: text/plain\nStatus: " + code.toString() + "\n\n");
if (failure != 0) {
  process.stdout.write("failure " + failure.toString() + "\n");
} else {
  const buffer = new ArrayBuffer(4096);
  while (true) {
    failure = httpBodyRead(load<u32>(handle), changetype<usize>(buffer), 4096, count);
    const length = load<u32>(count);
    if (failure != 0 || length == 0) break;
    process.stdout.write(buffer.slice(0, <i32>length));
  }
  httpClose(load<u32>(handle));
  if (failure != 0) process.exit(1);
}
