import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { clock } from "../clock.js";
import { readIfThere, writeWhole } from "./files.js";
import { isRunning, processIdentity } from "./process-identity.js";
import { explain, isHopeless, ServerProcess, type ServerPlace } from "./server-process.js";

const backoff_ms = { least: 500, most: 30_000 };

/** Keeps one server running: a server that ends is started again, later each time; not one that can't succeed. */
export class Supervisor {
  /** Resolves when it gives up, with the reason; never after `stop`. */
  readonly gaveUp: Promise<string>;
  readonly #place: ServerPlace;
  readonly #announce: (line: string) => void;
  #server: ServerProcess;
  #stopping = false;

  private constructor(place: ServerPlace, server: ServerProcess, announce: (line: string) => void) {
    this.#place = place;
    this.#server = server;
    this.#announce = announce;
    this.gaveUp = this.#watch();
  }

  /**
   * Starts the server and waits until it is ready.
   * @param processFile where its process is noted, for the next start
   * @throws Obstacle if the first start does not succeed
   */
  static async start(place: ServerPlace, processFile: string, announce: (line: string) => void): Promise<Supervisor> {
    const server = await ServerProcess.start(place);
    await writeWhole(processFile, (await processIdentity(server.pid)) ?? "", 0o600);
    try {
      await server.ready();
    } catch (error) {
      server.kill();
      throw error;
    }
    return new Supervisor(place, server, announce);
  }

  /** Lets the server drain. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#server.running) await this.#server.stop();
  }

  /** Ends it at once. */
  kill(): void {
    this.#stopping = true;
    if (this.#server.running) this.#server.kill();
  }

  async #watch(): Promise<string> {
    let wait_ms = backoff_ms.least;
    for (;;) {
      const began_ms = clock.monotonic_ms();
      const ending = await this.#server.ended;
      if (this.#stopping) return await new Promise<never>(() => {});
      if (isHopeless(ending)) return explain(ending);
      if (clock.monotonic_ms() - began_ms > 60_000) wait_ms = backoff_ms.least;
      this.#announce(`the server ended (${explain(ending)}); starting it again in ${wait_ms / 1000} s`);
      await sleep(wait_ms);
      wait_ms = Math.min(wait_ms * 2, backoff_ms.most);
      if (!this.#stopping) this.#server = await ServerProcess.start(this.#place);
    }
  }
}

/** Ends the server that a killed start left behind, if it has not ended by itself. */
export async function endLeftServer(processFile: string, announce: (line: string) => void): Promise<void> {
  const identity = await readIfThere(processFile);
  if (identity !== undefined && (await isRunning(identity))) {
    announce("ending the server that an earlier start left behind");
    const pid = Number(identity.split(" ")[0]);
    process.kill(pid, "SIGTERM");
    for (let waited_ms = 0; await isRunning(identity); waited_ms += 50) {
      if (waited_ms === 10_000) process.kill(pid, "SIGKILL");
      await sleep(50);
    }
  }
  await rm(processFile, { force: true });
}
