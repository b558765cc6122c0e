const path = process.env.get("PATH_INFO");
const query = process.env.get("QUERY_STRING");

process.stdout.write("Content-Type: text/plain\n\n");
if (path == "/echo") {
  const buffer = new ArrayBuffer(4096);
  let length = process.stdin.read(buffer);
  while (length > 0) {
    process.stdout.write(buffer.slice(0, <i32>length));
    length = process.stdin.read(buffer);
  }
} else {
  let name = "world";
  const items = query.split("&");
  for (let i = 0; i < items.length; i++) {
    if (items[i].startsWith("name=")) name = items[i].substring(5);
  }
  process.stdout.write("Hello, " + name + "!\n");
}
