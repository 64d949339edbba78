import type { Readable, Writable } from "node:stream";
import { once } from "node:events";
import { exitCodes } from "./exit-codes.js";

/** What a command may touch of the process around it. */
export interface Streams {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number };
}

/** The reader of stdout went away (EPIPE): there is nobody left to tell, and nothing wrong. */
export class ReaderGone extends Error {
  override readonly name = "ReaderGone";
}

/** One run of the command line: its streams, its interruption, its exit code. */
export class Shell {
  readonly streams: Streams;
  readonly #interruption = new AbortController();
  /** Set by commands; what the process will exit with: one of exitCodes, or what a server says. */
  exitCode: number = exitCodes.ok;
  /** Set by a command that handles SIGINT and SIGTERM itself. */
  ownSignals = false;
  #readerGone = false;
  #outputFailure: NodeJS.ErrnoException | undefined;

  constructor(streams: Streams) {
    this.streams = streams;
    for (const stream of [streams.stdout, streams.stderr]) {
      stream.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "EPIPE") this.#readerGone ||= stream === streams.stdout;
        // Of a full disk behind stderr there is nobody to tell.
        else if (stream === streams.stderr) return;
        else this.#outputFailure = error;
        this.interrupt();
      });
    }
  }

  /** Aborts when the user interrupts, or when nobody reads any more. */
  get signal(): AbortSignal {
    return this.#interruption.signal;
  }

  get readerGone(): boolean {
    return this.#readerGone;
  }

  /** Why stdout can't be written, for example because its disk is full; undefined while it can. */
  get outputFailure(): NodeJS.ErrnoException | undefined {
    return this.#outputFailure;
  }

  interrupt(): void {
    this.#interruption.abort();
  }

  /** Writes to stdout; waits while the reader is slower. @throws ReaderGone */
  async write(text: string): Promise<void> {
    if (this.#readerGone) throw new ReaderGone("nobody reads the output");
    if (this.streams.stdout.write(text)) return;
    try {
      await once(this.streams.stdout, "drain", { signal: this.signal });
    } catch (error) {
      throw this.#readerGone ? new ReaderGone("nobody reads the output", { cause: error }) : error;
    }
  }

  /** Waits until what was written to stdout is out, or is known not to get there. */
  async flush(): Promise<void> {
    if (this.#readerGone || this.#outputFailure !== undefined) return;
    // The stream tells this callback of a failure first, and those who listen for errors right after.
    await new Promise<void>((resolve) => this.streams.stdout.write("", () => setImmediate(resolve)));
  }

  /** Writes one line to stdout. */
  async print(line: string): Promise<void> {
    await this.write(`${line}\n`);
  }

  /** Writes one line to stderr: what is for people and does not belong to the result. */
  tell(line: string): void {
    this.streams.stderr.write(`${line}\n`);
  }
}
