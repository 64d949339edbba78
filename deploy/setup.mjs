#!/usr/bin/env node
// From a fresh checkout to a running or a tested vault. Plain JavaScript without packages: it runs before npm has installed any.
import process from "node:process";
import { knownTrouble, say, Stop } from "./run.mjs";

const usage = `usage: node deploy/setup.mjs start [option ...] | test [file filter ...] | build

  start   installs what is missing, builds, starts a vault on this machine, shows what it does, and stays up
          --demo                ends after the demonstration, with its exit code
          --port <number>       gRPC port; default: 7443 where it is free
          --probe-port <number> port for probes and metrics; default: 7480 where it is free
          --state <folder>      where the vault lies; default: .cardex
          --clear-pin-refusal   the PIN file is right again: the HSM may be asked once more
  test    installs what is missing, builds, and runs every check and test
  build   installs what is missing, and builds`;

/** @param {readonly string[]} args @returns {Promise<number>} exit code */
async function main([command, ...args]) {
  if (command === undefined || command === "--help" || args.includes("--help")) {
    process.stdout.write(`${usage}\n`);
    return command === undefined ? 2 : 0;
  }
  if (!["start", "test", "build"].includes(command)) throw new Stop(`unknown command "${command}"; ${usage}`, { exitCode: 2 });
  checkNode();
  const { ensureSystemPackages, foreignClient, softhsm } = await import("./system-packages.mjs");
  const { ensureNpmPackages } = await import("./npm-packages.mjs");
  if (command !== "build") await ensureSystemPackages([softhsm]);
  if (command === "test") await wish(() => ensureSystemPackages(foreignClient));
  await ensureNpmPackages();
  if (command === "test") return await (await import("./checks.mjs")).check(args);
  await (await import("./build.mjs")).build();
  if (command === "build") return 0;
  /** @type {{ start: (args: readonly string[]) => Promise<number> }} */
  const { start } = await import(new URL("../dist/src/dev/start.js", import.meta.url).href);
  return await start(args);
}

/** What tests can do without: those that need it say so. @param {() => Promise<void>} step */
async function wish(step) {
  try {
    await step();
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    say(`going on without: ${error.message}`);
  }
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 11)) {
    throw new Stop(`Node ${process.versions.node} is too old: install Node 20.11 or newer (https://nodejs.org), then start again`);
  }
  if (process.platform === "win32") throw new Stop("Windows is not supported: run it in WSL");
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error) => {
    if (error instanceof Stop) {
      if (error.details !== "") process.stderr.write(`${error.details}\n`);
      say(error.message);
      process.exit(error.exitCode);
    }
    // An Obstacle of the compiled code, or a fault of ours.
    say(error?.name === "Obstacle" ? error.message : (knownTrouble(String(error?.message)) ?? String(error?.stack)));
    process.exit(1);
  },
);
