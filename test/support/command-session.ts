import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { environment } from "../../src/config.js";

/** "npx cardex" without npm's own second or two: a test of its own shows that npx comes to the same. */
const withoutNpx = `npx() { if [ "$1" = cardex ]; then shift; node dist/src/cli/cardex.js "$@"; else command npx "$@"; fi; }`;

/** What a command came to. */
export interface Finished {
  readonly code: number | null;
  /** stdout and stderr, as they came. */
  readonly output: string;
}

/** A program that stays up. */
export interface Running {
  readonly output: () => string;
  /** SIGTERM to it and all that it started; waits for its end. */
  stop(): Promise<Finished>;
}

/** One shell over several blocks of commands: what a block exports or sets, the next one finds. The environment of these tests is not in it. */
export class CommandSession {
  readonly #folder: string;
  readonly #variables: string;
  readonly #scratch: string;
  readonly #replace: (text: string) => string;

  private constructor(folder: string, scratch: string, replace: (text: string) => string) {
    this.#folder = folder;
    this.#scratch = scratch;
    this.#variables = join(scratch, "variables");
    this.#replace = replace;
  }

  /** @param replace what stands for names that only a reader has: hosts, ports, folders */
  static async open(folder: string, replace: (text: string) => string): Promise<CommandSession> {
    const scratch = await mkdtemp(join(tmpdir(), "cardex-session-"));
    await writeFile(join(scratch, "variables"), "");
    return new CommandSession(folder, scratch, replace);
  }

  /** Runs commands until one fails. */
  async run(commands: string): Promise<Finished> {
    const script = `${withoutNpx}\nsource "$1"; set -a; ${this.#replace(commands)}\nset +a; export -p > "$1"`;
    return await finished(this.#spawn(["-euo", "pipefail", "-c", script, "bash", this.#variables]));
  }

  /** Starts a command that stays up, and waits until it is ready. @throws Error with its output if it ends before */
  async start(command: string, isReady: (output: string) => boolean | Promise<boolean>): Promise<Running> {
    const child = this.#spawn(["-c", `${withoutNpx}\nsource "$1"; ${this.#replace(command)}`, "bash", this.#variables]);
    const ended = finished(child);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const stop = async (): Promise<Finished> => {
      // All of its group: npm and the shell that it starts would keep the signal to themselves.
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) process.kill(-child.pid, "SIGTERM");
      return await ended;
    };
    while (!(await isReady(output))) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`"${command}" ended:\n${output}`);
      await sleep(50);
    }
    return { output: () => output, stop };
  }

  async close(): Promise<void> {
    await rm(this.#scratch, { recursive: true, force: true });
  }

  #spawn(args: readonly string[]): ChildProcess {
    // The system's own programs first: its packages for Python are for its own Python.
    const path = [dirname(process.execPath), "/usr/bin", "/bin", environment.get("PATH")].join(delimiter);
    const env = { PATH: path, HOME: environment.get("HOME"), LANG: "C.UTF-8" };
    return spawn("bash", args, { cwd: this.#folder, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  }
}

async function finished(child: ChildProcess): Promise<Finished> {
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  await once(child, "close");
  return { code: child.exitCode, output };
}

/** The lines of `shown` that the output does not have, in this order; `…` stands for anything. */
export function notShown(output: string, shown: readonly string[]): string[] {
  const lines = output.split("\n").map((line) => line.trimEnd());
  let from = 0;
  return shown.filter((pattern) => {
    const parts = pattern.replace(/ …$/, "…").split("…");
    const form = new RegExp(`^${parts.map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)).join(".*")}$`);
    const at = lines.findIndex((line, i) => i >= from && form.test(line));
    if (at === -1) return true;
    from = at + 1;
    return false;
  });
}
