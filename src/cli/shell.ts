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

  constructor(streams: Streams) {
    this.streams = streams;
    for (const stream of [streams.stdout, streams.stderr]) {
      stream.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code !== "EPIPE") throw error;
        if (stream === streams.stdout) this.#readerGone = true;
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

  /** Writes one line to stdout. */
  async print(line: string): Promise<void> {
    await this.write(`${line}\n`);
  }

  /** Writes one line to stderr: what is for people and does not belong to the result. */
  tell(line: string): void {
    this.streams.stderr.write(`${line}\n`);
  }
}
