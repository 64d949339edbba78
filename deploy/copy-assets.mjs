import { cpSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const checkout = dirname(dirname(fileURLToPath(import.meta.url)));

/** What the compiled code reads beside itself. */
const assets = /\.(sql|csv|conf)$/;

/** Copies the files that tsc leaves behind from src/ to dist/src/. */
export function copyAssets() {
  const from = join(checkout, "src");
  for (const name of readdirSync(from, { recursive: true, encoding: "utf8" })) {
    if (assets.test(name)) cpSync(join(from, name), join(checkout, "dist", "src", relative(from, join(from, name))));
  }
}
