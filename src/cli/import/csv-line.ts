import { parse } from "csv-parse/sync";

/** Longest line of a CSV file, bytes. */
export const csvLine_bytes_max = 65_536;

/**
 * The fields of one line of CSV (RFC 4180); undefined if it is not UTF-8 or its quotes don't match. A record is a line: a line break
 * inside quotes is not taken, so that one stray quote spoils one row and not the rest of the file. A second record, behind a carriage
 * return in the line, is refused with the first one: it would be lost.
 */
export function readCsvLine(line: Buffer, delimiter: string): string[] | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(line);
    const [record, ...others] = parse(text, { delimiter, relax_column_count: true, trim: true });
    return others.length > 0 ? undefined : (record ?? []);
  } catch {
    // The parser's own message may quote the value.
    return undefined;
  }
}
