import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { copyAssets } from "./copy-assets.mjs";
import { checkout, knownTrouble, lastLines, run, say, Stop, toolEnvironment } from "./run.mjs";
import { fingerprint, readStamp, writeStamp } from "./stamp.mjs";

const stampFile = "dist/.cardex-stamp";
const sources = ["proto", "src", "hsm", "test", "bench", "buf.yaml", "buf.gen.yaml", "tsconfig.json", "package-lock.json"];

/** Generates the protobuf code and compiles everything into dist/, unless that is done. */
export async function build() {
  const wanted = fingerprint(sources);
  if (readStamp(stampFile) === wanted) return;
  say("building");
  rmSync(join(checkout, stampFile), { force: true });
  await step("buf generate", "buf", ["generate"]);
  await step("tsc", "tsc", ["-p", "."]);
  copyAssets();
  removeStale("dist");
  writeStamp(stampFile, wanted);
}

/** @param {string} doing @param {string} program @param {readonly string[]} args */
async function step(doing, program, args) {
  const { code, output } = await run(doing, program, args, { env: toolEnvironment() });
  if (code !== 0) throw new Stop(knownTrouble(output) ?? `the build failed in ${doing}`, { details: lastLines(output) });
}

/** Removes what was compiled from a source that is gone: its tests would still run. @param {string} folder */
function removeStale(folder) {
  for (const entry of readdirSync(join(checkout, folder), { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) removeStale(path);
    else {
      const source = path.replace(/^dist\//, "").replace(/(\.d\.ts|\.js)(\.map)?$/, ".ts");
      if (source.endsWith(".ts") && !existsSync(join(checkout, source))) rmSync(join(checkout, path));
    }
  }
}
