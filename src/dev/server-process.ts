import { spawn, type ChildProcess } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import { get } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { clock } from "../clock.js";
import { environment } from "../config.js";
import { Obstacle } from "./obstacle.js";

const preload = new URL("./end-with-parent.js", import.meta.url).href;
const program = fileURLToPath(new URL("../cli/cardex.js", import.meta.url));

/** How a process ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The last lines that it wrote. */
  readonly lastLines: readonly string[];
}

export interface ServerPlace {
  readonly configFile: string;
  /** Its log is appended to this file. */
  readonly logFile: string;
  readonly probePort: number;
  /** Further environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** `cardex serve` as a child process that ends with this one. */
export class ServerProcess {
  readonly ended: Promise<Ending>;
  readonly #child: ChildProcess;
  readonly #probePort: number;

  private constructor(child: ChildProcess, ended: Promise<Ending>, probePort: number) {
    this.#child = child;
    this.ended = ended;
    this.#probePort = probePort;
  }

  /** Starts it; `ready` waits until it serves. */
  static async start(place: ServerPlace): Promise<ServerProcess> {
    const log = await open(place.logFile, "a", 0o600);
    const { size } = await log.stat();
    const child = spawn(process.execPath, ["--enable-source-maps", "--import", preload, program, "serve", "--config", place.configFile], {
      cwd: "/",
      // What it needs is in its configuration and in files; nothing secret is in its environment.
      env: { PATH: environment.get("PATH"), ...logLevel(), ...place.env },
      stdio: ["ignore", log.fd, log.fd, "ipc"],
      // Ctrl-C at the terminal reaches the parent only, which ends things in order.
      detached: true,
    });
    await log.close();
    const ended = new Promise<Ending>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        lastLines(place.logFile, size).then((lines) => resolve({ code, signal, lastLines: lines }), reject);
      });
    });
    ended.catch(() => {});
    return new ServerProcess(child, ended, place.probePort);
  }

  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error("the server process was not started");
    return pid;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /**
   * Waits until the server says that it is ready.
   * @throws Obstacle if it ends before, or is not ready in time
   */
  async ready(within_ms = 30_000): Promise<void> {
    const began_ms = clock.monotonic_ms();
    while (!(await isReady(this.#probePort))) {
      if (!this.running) throw new Obstacle(`the server did not start: ${explain(await this.ended)}`);
      if (clock.monotonic_ms() - began_ms > within_ms) throw new Obstacle(`the server was not ready within ${within_ms / 1000} s`);
      await sleep(30);
    }
  }

  /** Lets it drain, then forces it. */
  async stop(force_ms = 15_000): Promise<Ending> {
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.kill(), force_ms);
    const ending = await this.ended;
    clearTimeout(timer);
    return ending;
  }

  /** kill -9. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

async function lastLines(file: string, from: number): Promise<string[]> {
  const text = (await readFile(file)).subarray(from).toString();
  return text.split("\n").filter((line) => line !== "").slice(-20);
}

/**
 * Whether a server that ended so should be left alone: a wrong command line (cli/exit-codes.ts), a refused PIN, a configuration that can't be
 * used (`serverExit` in main.ts).
 */
export function isHopeless({ code }: Ending): boolean {
  return code !== null && [2, 77, 78].includes(code);
}

/** One line that says why it ended. */
export function explain({ code, signal, lastLines }: Ending): string {
  for (const line of lastLines.toReversed()) {
    const text = messageOf(line);
    if (text !== undefined) return text;
  }
  return signal === null ? `it ended with exit code ${code ?? "unknown"}` : `it was ended by ${signal}`;
}

/** The message of a log line at level error or fatal, or a plain line. */
function messageOf(line: string): string | undefined {
  if (!line.startsWith("{")) return line.startsWith("    at ") ? undefined : line;
  try {
    const { level, msg, err } = JSON.parse(line) as { level?: string; msg?: string; err?: { message?: string } };
    if (level !== "fatal" && level !== "error") return undefined;
    return [...new Set([msg, err?.message])].filter((part) => part !== undefined).join(": ");
  } catch {
    return undefined;
  }
}

function logLevel(): Record<string, string> {
  const level = environment.logLevel();
  return level === undefined ? {} : { CARDEX_LOG_LEVEL: level };
}

function isReady(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ host: "127.0.0.1", port, path: "/readyz", timeout: 2000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.once("error", () => resolve(false));
    request.once("timeout", () => request.destroy());
  });
}
