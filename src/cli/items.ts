import { CommandFailure } from "./command-failure.js";
import { exitCodes } from "./exit-codes.js";
import { readLines } from "./lines.js";
import type { Shell } from "./shell.js";

/** One thing to work on, and where it stood: the line of stdin, or the place among the arguments, from 1. */
export interface Item {
  readonly place: number;
  readonly text: string;
}

/** Longest line that is taken from stdin, bytes. */
const line_bytes_max = 1024;

/** Lines of stdin that are not empty, in groups of at most `size`. */
export async function* stdinItems(shell: Shell, size: number): AsyncGenerator<Item[], void, undefined> {
  let group: Item[] = [];
  for await (const lines of readLines(shell.streams.stdin as AsyncIterable<Uint8Array>, line_bytes_max)) {
    for (const line of lines) {
      const text = line.tooLong ? "(too long)" : line.bytes.toString("utf8").trim();
      if (text !== "") group.push({ place: line.number, text });
      if (group.length === size) {
        yield group;
        group = [];
      }
    }
  }
  if (group.length > 0) yield group;
}

/** The arguments, or, where there are none or one "-", the lines of stdin; in groups of at most `size`. */
export async function* argumentItems(shell: Shell, values: readonly string[], size: number): AsyncGenerator<Item[], void, undefined> {
  if (values.length === 0 || (values.length === 1 && values[0] === "-")) {
    yield* stdinItems(shell, size);
    return;
  }
  const items = values.map((text, i) => ({ place: i + 1, text }));
  for (let from = 0; from < items.length; from += size) yield items.slice(from, from + size);
}

/** Each item's place with its result. @throws CommandFailure if the server did not answer item by item */
export function answered<R>(items: readonly Item[], results: readonly R[]): [place: number, result: R][] {
  if (results.length !== items.length) throw new CommandFailure(exitCodes.failed, `the server sent ${results.length} results for ${items.length} items`);
  return results.map((result, i) => [items[i]?.place ?? 0, result]);
}
