import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { checkout } from "./run.mjs";

/**
 * A hash over files, and over facts that change what is made of them, that tells whether a step has to be done again.
 * @param {readonly string[]} paths files and folders below the checkout
 * @param {readonly string[]} [facts]
 */
export function fingerprint(paths, facts = []) {
  const hash = createHash("sha256");
  for (const fact of facts) hash.update(`${fact}\0`);
  for (const path of paths) {
    for (const file of filesBelow(path)) {
      hash.update(`${file}\0`);
      hash.update(readFileSync(join(checkout, file)));
      hash.update("\0");
    }
  }
  return hash.digest("hex");
}

/** @param {string} path @returns {string[]} */
function filesBelow(path) {
  const found = statSync(join(checkout, path), { throwIfNoEntry: false });
  if (found === undefined) return [];
  if (!found.isDirectory()) return [path];
  return readdirSync(join(checkout, path))
    .sort()
    .flatMap((name) => filesBelow(join(path, name)));
}

/** @param {string} file @returns {string | undefined} */
export function readStamp(file) {
  try {
    return readFileSync(join(checkout, file), "utf8").trim();
  } catch {
    return undefined;
  }
}

/** @param {string} file @param {string} stamp */
export function writeStamp(file, stamp) {
  mkdirSync(dirname(join(checkout, file)), { recursive: true });
  writeFileSync(join(checkout, file), `${stamp}\n`);
}
