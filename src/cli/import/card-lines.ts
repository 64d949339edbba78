import { createReadStream } from "node:fs";
import { usageFailure } from "../command-failure.js";
import { type FileLine, type LinePosition, readLines } from "../lines.js";
import { type Columns, findColumns, type ImportField } from "./columns.js";
import { csvLine_bytes_max, readCsvLine } from "./csv-line.js";

const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf]);

/** A CSV file whose header was read, ready to give its lines. */
export interface CardLines {
  readonly columns: Columns;
  /** Lines after the header, in groups of at most `size`. */
  groups(size: number): AsyncGenerator<FileLine[], void, undefined>;
}

/** Where the lines come from. */
export interface CardSource {
  /** Path; undefined: `stdin`. */
  readonly file: string | undefined;
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly delimiter: string;
  readonly names: Partial<Record<ImportField, string>>;
}

/**
 * Reads the header, then goes on at `start` (a file's beginning: right after the header).
 * @throws CommandFailure if the header is missing or lacks a column
 */
export async function openCardLines(source: CardSource, start: LinePosition): Promise<CardLines> {
  const chunks = source.file === undefined ? source.stdin : createReadStream(source.file);
  const groups = readLines(chunks, csvLine_bytes_max);
  const first = await groups.next();
  const [header, ...others] = first.done === true ? [] : first.value;
  const fields = header === undefined || header.tooLong ? undefined : readCsvLine(withoutMark(header.bytes), source.delimiter);
  if (header === undefined) throw usageFailure("the input has no header line");
  if (fields === undefined) throw usageFailure("the first line is no header: it is too long, not CSV in UTF-8, or lines end with CR alone");
  const columns = findColumns(fields, source.names);
  if (source.file === undefined || start.lines === 0) return { columns, groups: (size) => regroup(prepend(others, groups), size) };
  await groups.return();
  const rest = readLines(createReadStream(source.file, { start: start.bytes }), csvLine_bytes_max, { start });
  return { columns, groups: (size) => regroup(rest, size) };
}

async function* prepend(first: FileLine[], rest: AsyncIterable<FileLine[]>): AsyncGenerator<FileLine[], void, undefined> {
  if (first.length > 0) yield first;
  yield* rest;
}

async function* regroup(groups: AsyncIterable<FileLine[]>, size: number): AsyncGenerator<FileLine[], void, undefined> {
  let open: FileLine[] = [];
  for await (const group of groups) {
    open = open.concat(group);
    while (open.length >= size) yield open.splice(0, size);
  }
  if (open.length > 0) yield open;
}

function withoutMark(line: Buffer): Buffer {
  return line.subarray(0, byteOrderMark.length).equals(byteOrderMark) ? line.subarray(byteOrderMark.length) : line;
}
