import type { CardexError } from "../client/error.js";
import { callLine, exitCodeOf } from "./command-failure.js";
import { type ExitCode, exitCodes } from "./exit-codes.js";
import type { Shell } from "./shell.js";

/** Counts what came of the items of a command and tells of those that failed, by their place, never by their value. */
export class BatchReport {
  #items = 0;
  #last: CardexError | undefined;

  succeeded(): void {
    this.#items += 1;
  }

  failed(shell: Shell, place: number, error: CardexError): void {
    this.#items += 1;
    this.#last = error;
    shell.tell(`cardex: item ${place}: ${callLine(error)}`);
  }

  /** The error's own code where there was one item only. */
  exitCode(): ExitCode {
    if (this.#last === undefined) return exitCodes.ok;
    return this.#items === 1 ? exitCodeOf(this.#last.code) : exitCodes.someRejected;
  }

  get items(): number {
    return this.#items;
  }
}
