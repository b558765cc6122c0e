addEventListener("fetch", (event) => event.respondWith(handle(event.request)));

function handle(request) {
  const url = new URL(request.url);
  const headers = { "Content-Type": "text/plain" };
  if (url.pathname.endsWith("/echo")) {
    return new Response(request.body, { headers });
  }
  const name = url.searchParams.get("name") ?? "world";
  return new Response(`Hello, ${name}!\n`, { headers });
}
