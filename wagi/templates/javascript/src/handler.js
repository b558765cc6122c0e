import * as std from "qjs:std";

function parameter(name) {
    for (const item of std.getenv("QUERY_STRING").split("&")) {
        const [key, value = ""] = item.split("=");
        if (key === name) return decodeURIComponent(value.replaceAll("+", " "));
    }
}

std.out.puts("Content-Type: text/plain\n\n");
if (std.getenv("PATH_INFO") === "/echo") {
    const buffer = new ArrayBuffer(65536);
    let length;
    while ((length = std.in.read(buffer, 0, buffer.byteLength)) > 0) {
        std.out.write(buffer, 0, length);
    }
} else {
    std.out.puts(`Hello, ${parameter("name") ?? "world"}!\n`);
}
