#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { environment } from "../config.js";
import { exitCodes } from "./exit-codes.js";
import { run } from "./run.js";
import { Shell } from "./shell.js";

// Node warns of a TLS server name that is an IP address whenever a server is called by one; not a matter for users of the command.
process.noDeprecation = true;

const shell = new Shell(process);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (shell.ownSignals) return;
    // The second time nothing is finished any more.
    if (shell.signal.aborted) process.exit(exitCodes.interrupted);
    shell.interrupt();
  });
}
const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as { version: string };
process.exitCode = await run(shell, process.argv.slice(2), { version, debug: environment.logLevel() === "debug" });
// A pipe on stdin that nobody closes must not keep the process.
process.stdin.destroy();
