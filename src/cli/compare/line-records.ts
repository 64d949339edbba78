import { createReadStream } from "node:fs";
import { usageFailure } from "../command-failure.js";
import { csvLine_bytes_max, readCsvLine } from "../import/csv-line.js";
import { readLines } from "../lines.js";

/** One record of a file that `cardex import` wrote: the line of the input that it is about, and one further column. */
export interface LineRecord {
  readonly line: number;
  readonly value: string;
}

/**
 * Reads such a file in its order, which is that of the input.
 * @throws CommandFailure if it lacks a column, or its line numbers don't rise
 */
export async function* readLineRecords(file: string, column: string): AsyncGenerator<LineRecord, void, undefined> {
  let columns: { readonly line: number; readonly value: number } | undefined;
  let last = 0;
  for await (const lines of readLines(createReadStream(file), csvLine_bytes_max)) {
    for (const each of lines) {
      const fields = readCsvLine(each.bytes, ",") ?? [];
      if (columns === undefined) {
        columns = { line: fields.indexOf("line"), value: fields.indexOf(column) };
        if (columns.line === -1 || columns.value === -1) throw usageFailure(`${file}: must have the columns "line" and "${column}", as cardex import writes them`);
        continue;
      }
      const line = Number(fields[columns.line]);
      if (!Number.isSafeInteger(line) || line <= last) throw usageFailure(`${file}, line ${each.number}: the column "line" must hold rising line numbers`);
      last = line;
      yield { line, value: fields[columns.value] ?? "" };
    }
  }
}

/** Walks over a file of records beside another file whose lines come in order. */
export class RecordCursor {
  readonly #records: AsyncGenerator<LineRecord, void, undefined>;
  #next: LineRecord | undefined;
  #started = false;
  /** Records whose line the other file did not have. */
  skipped = 0;

  constructor(records: AsyncGenerator<LineRecord, void, undefined>) {
    this.#records = records;
  }

  /** The record of this line, if there is one. Lines must rise from call to call. */
  async at(line: number): Promise<LineRecord | undefined> {
    if (!this.#started) await this.#advance();
    while (this.#next !== undefined && this.#next.line < line) {
      this.skipped += 1;
      await this.#advance();
    }
    if (this.#next?.line !== line) return undefined;
    const found = this.#next;
    await this.#advance();
    return found;
  }

  /** Counts what is left as skipped. */
  async finish(): Promise<void> {
    await this.at(Number.MAX_SAFE_INTEGER);
  }

  async #advance(): Promise<void> {
    this.#started = true;
    const next = await this.#records.next();
    this.#next = next.done === true ? undefined : next.value;
  }
}
