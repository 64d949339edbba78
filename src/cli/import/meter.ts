import { Presets, SingleBar } from "cli-progress";
import { clock } from "../../clock.js";
import type { Shell } from "../shell.js";

/** Time after which a call that goes unanswered is worth a word. */
const silence_ms = 5000;

/** Shows how a long job comes on: a bar by bytes, with rate and time left, on stderr. Silent where stderr is no terminal. */
export class Meter {
  readonly #shell: Shell;
  readonly #bar: SingleBar | undefined;
  readonly #start_ms = clock.monotonic_ms();
  #rows = 0;
  #silenceTold = false;

  /** @param total_bytes undefined where it is not known, as for stdin: no bar then */
  constructor(shell: Shell, total_bytes: number | undefined, done_bytes = 0) {
    this.#shell = shell;
    if (shell.streams.stderr.isTTY !== true || total_bytes === undefined) return;
    this.#bar = new SingleBar(
      {
        format: "{bar} {percentage} %  {rows} rows  {rate} rows/s  {eta_formatted} left",
        stream: shell.streams.stderr,
        hideCursor: true,
        clearOnComplete: true,
        stopOnComplete: false,
        etaBuffer: 50,
      },
      Presets.shades_classic,
    );
    this.#bar.start(total_bytes, done_bytes, { rows: 0, rate: 0 });
  }

  /** Rows a second since the start. */
  get rate(): number {
    return Math.round((this.#rows * 1000) / Math.max(1, clock.monotonic_ms() - this.#start_ms));
  }

  advance(rows: number, done_bytes: number): void {
    this.#rows += rows;
    this.#bar?.update(done_bytes, { rows: this.#rows, rate: this.rate });
  }

  /** Waits for a call, and says so, once, where it takes long: calls of long jobs are repeated while the server is away. */
  async patiently<T>(call: Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      if (this.#silenceTold) return;
      this.#silenceTold = true;
      // The bar is drawn again below.
      if (this.#bar !== undefined) this.#shell.streams.stderr.write("\r\u001B[K");
      this.#shell.tell("the server does not answer; trying again for up to two minutes");
    }, silence_ms);
    try {
      return await call;
    } finally {
      clearTimeout(timer);
    }
  }

  stop(): void {
    this.#bar?.stop();
  }
}
