import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout. */
export const checkout = dirname(dirname(fileURLToPath(import.meta.url)));

/** Something the user has to mend: the message is one line that says what is wrong and what to do. */
export class Stop extends Error {
  /** @param {string} message @param {{ details?: string, exitCode?: number }} [more] details: output of a program, shown above the line */
  constructor(message, more = {}) {
    super(message);
    this.details = more.details ?? "";
    this.exitCode = more.exitCode ?? 1;
  }
}

/** @param {string} line one step, announced */
export function say(line) {
  process.stderr.write(`cardex: ${line}\n`);
}

/**
 * @typedef {object} RunOptions
 * @property {NodeJS.ProcessEnv} [env] added to the environment
 * @property {boolean} [shown] its output goes to the terminal instead of being kept
 * @property {boolean} [interactive] it may ask at the terminal (sudo)
 */

/**
 * Runs a program in the checkout, telling every ten seconds that it still runs.
 * @param {string} doing what it does, for the progress line
 * @param {string} program
 * @param {readonly string[]} args
 * @param {RunOptions} [options]
 * @returns {Promise<{ code: number, output: string }>} its exit code (128 and more: a signal; 127: no such program) and the end of its output
 */
export function run(doing, program, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: checkout,
      env: { ...process.env, ...options.env },
      stdio: options.shown === true ? ["ignore", "inherit", "inherit"] : [options.interactive === true ? "inherit" : "ignore", "pipe", "pipe"],
    });
    let output = "";
    /** @param {Buffer} chunk */
    const keep = (chunk) => (output = (output + chunk.toString()).slice(-100_000));
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    let seconds = 0;
    const progress = setInterval(() => {
      seconds += 10;
      if (options.shown !== true) say(`  ${doing}: ${seconds} s so far`);
    }, 10_000);
    child.once("error", (error) => {
      clearInterval(progress);
      resolve({ code: 127, output: error.message });
    });
    child.once("close", (code, signal) => {
      clearInterval(progress);
      resolve({ code: code ?? (signal === null ? 1 : 128), output });
    });
  });
}

/** The environment in which the programs of the npm packages are found, and leave nothing outside the checkout. */
export function toolEnvironment() {
  const modules = join(checkout, "node_modules");
  return { PATH: `${join(modules, ".bin")}:${process.env["PATH"] ?? ""}`, BUF_CACHE_DIR: join(modules, ".cache", "buf") };
}

/**
 * What commonly stands behind a failed program, as a line that says what to do.
 * @param {string} output
 * @returns {string | undefined}
 */
export function knownTrouble(output) {
  if (/ENOSPC|No space left on device|Disk quota exceeded|not enough free space|could not extend file/i.test(output)) {
    return "the disk is full: free some space (about 1 GB is needed), then start again";
  }
  if (/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|Temporary failure resolving|Could not resolve|Failed to fetch|Unable to connect/i.test(output)) {
    return "the package registry can't be reached: check the network and its proxy settings (npm config get registry, /etc/apt), then start again";
  }
  if (/Could not get lock|Unable to acquire the dpkg/i.test(output)) return "another program is installing packages: wait until it is done, then start again";
  if (/EACCES|EPERM|EROFS|Permission denied|Read-only file system/i.test(output)) {
    return "a file can't be written: start as the user who owns the checkout (a start as root may have left files of root's: chown -R them)";
  }
  return undefined;
}

/** @param {string} output @returns {string} its last lines */
export function lastLines(output) {
  return output.trim().split("\n").slice(-15).join("\n");
}
