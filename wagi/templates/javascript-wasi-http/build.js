// Makes build/NAME.wasm from src/handler.js.
//
// The engine of componentize-js 0.23 is built for WASI 0.2.10. jco has the interfaces of WASI 0.2.12, which differ from
// those only in their number as far as the engine uses them.
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { componentize } from "@bytecodealliance/componentize-js";

const [ENGINE, INTERFACES] = ["0.2.10", "0.2.12"];
await cp(`node_modules/@bytecodealliance/jco/lib/wit/builtin/${INTERFACES}`, "build/wit/deps", { recursive: true });
for (const name of await readdir("build/wit/deps", { recursive: true })) {
  if (name.endsWith(".wit")) {
    const path = join("build/wit/deps", name);
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replaceAll(`@${INTERFACES}`, `@${ENGINE}`));
  }
}
const world = `package local:handler; world handler { include wasi:http/proxy@${ENGINE}; }`;
await writeFile("build/wit/world.wit", world);
const { component } = await componentize({
  sourcePath: "src/handler.js",
  witPath: "build/wit",
  worldName: "handler",
});
await writeFile("build/NAME.wasm", component);
