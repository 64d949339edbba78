import { Presets, SingleBar } from "cli-progress";
import { clock } from "../../clock.js";
import type { Shell } from "../shell.js";

/** Shows how a long job comes on: a bar by bytes, with rate and time left, on stderr. Silent where stderr is no terminal. */
export class Meter {
  readonly #bar: SingleBar | undefined;
  readonly #start_ms = clock.monotonic_ms();
  #rows = 0;

  /** @param total_bytes undefined where it is not known, as for stdin: no bar then */
  constructor(shell: Shell, total_bytes: number | undefined, done_bytes = 0) {
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

  stop(): void {
    this.#bar?.stop();
  }
}
