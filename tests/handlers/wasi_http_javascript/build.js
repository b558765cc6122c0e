// Makes handler.wasm from handler.js.
//
// The engine in componentize-js 0.19 is built for WASI 0.2.3. jco has the interfaces of WASI 0.2.12,
// which differ from those only in their number as far as the engine uses them.
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { componentize } from "@bytecodealliance/componentize-js";

const [ENGINE, INTERFACES] = ["0.2.3", "0.2.12"];
const source = `node_modules/@bytecodealliance/jco/lib/wit/builtin/${INTERFACES}`;
await cp(source, "wit/deps", { recursive: true });
for (const name of await readdir("wit/deps", { recursive: true })) {
  if (name.endsWith(".wit")) {
    const text = await readFile(join("wit/deps", name), "utf8");
    await writeFile(join("wit/deps", name), text.replaceAll(`@${INTERFACES}`, `@${ENGINE}`));
  }
}
const world = `package wagi:handler; world handler { include wasi:http/proxy@${ENGINE}; }`;
await writeFile("wit/world.wit", world);
const handler = await readFile("handler.js", "utf8");
const { component } = await componentize(handler, { witPath: "wit", worldName: "handler" });
await writeFile("handler.wasm", component);
