// A handler of wasi:http for componentize-js: the event `fetch`, as in browsers' service workers.

addEventListener("fetch", (event) => event.respondWith(handle(event.request)));

async function handle(request) {
  const url = new URL(request.url);
  switch (url.pathname) {
    case "/hello":
      return new Response("hello from JavaScript\n", { headers: { "x-language": "js" } });
    case "/echo":
      return new Response(request.body, { headers: { "x-method": request.method } });
    case "/json": {
      const { name } = await request.json();
      return Response.json({ greeting: `Hello, ${name}!` }, { status: 201 });
    }
    case "/fetch": {
      const response = await fetch(`http://${url.search.slice(1)}`, {
        method: request.method,
        body: request.method === "POST" ? await request.text() : undefined,
      });
      return new Response(`${response.status} ${await response.text()}`);
    }
    case "/sleep":
      await new Promise((done) => setTimeout(done, 300));
      return new Response("slept\n");
    case "/throw":
      throw new Error("on purpose");
    default:
      return new Response("no such path\n", { status: 404 });
  }
}
