import { v5 as nameUuid } from "uuid";
import { readExpiry, type YearMonth } from "../arguments.js";
import type { FileLine } from "../lines.js";
import type { Columns, ImportField } from "./columns.js";
import { readCsvLine } from "./csv-line.js";

/** Why a row is not imported. Never holds a value of the row. */
export interface Reject {
  readonly line: number;
  /** A FailureReason. */
  readonly reason: string;
  /** The field, where it is one. */
  readonly field: string;
  readonly message: string;
}

/** A row as it will be sent. */
export interface CardRow {
  readonly line: number;
  readonly pan: string;
  readonly expiry: YearMonth;
  readonly cardholderName: string;
  readonly externalReference: string;
}

export type ReadRow = { readonly row: CardRow } | { readonly reject: Reject };

/** Longest cardholder name and reference, characters; as the API says. */
const text_max = 128;

/** Reads one line. undefined for an empty one. What only the server can judge (Luhn, past expiry, content) is left to it. */
export function readRow(line: FileLine, columns: Columns, delimiter: string): ReadRow | undefined {
  const reject = (field: string, message: string): ReadRow => ({ reject: { line: line.number, reason: "INVALID_FIELD", field, message } });
  if (line.tooLong) return reject("", "the line is too long");
  if (line.bytes.length === 0) return undefined;
  const fields = readCsvLine(line.bytes, delimiter);
  if (fields === undefined) return reject("", "is not CSV in UTF-8, or its quotes don't match; a record is one line, which ends with LF or CR LF");
  if (fields.length === 0) return undefined;
  if (fields.length !== columns.count) return reject("", `has ${fields.length} columns where the header has ${columns.count}`);
  const value = (field: ImportField): string => {
    const at = columns.at[field];
    return at === undefined ? "" : (fields[at] ?? "");
  };
  const pan = value("pan");
  if (!/^[0-9]{8,19}$/.test(pan)) return reject("pan", "must be 8 to 19 digits, without spaces");
  const expiry = readExpiry(columns.at.expiry === undefined ? joinExpiry(value("expiry_month"), value("expiry_year")) : value("expiry"));
  if (expiry === undefined) return reject("expiry", "must be YYYY-MM, MM/YY or MM/YYYY");
  const cardholderName = value("cardholder_name");
  if (Array.from(cardholderName).length > text_max) return reject("cardholder_name", `must be at most ${text_max} characters`);
  const externalReference = value("external_reference");
  if (!/^[\x20-\x7e]{0,128}$/.test(externalReference)) return reject("external_reference", `must be at most ${text_max} printable ASCII characters`);
  return { row: { line: line.number, pan, expiry, cardholderName, externalReference } };
}

function joinExpiry(month: string, year: string): string {
  return `${month}/${year}`;
}

/**
 * The request_id of a row (UUID version 5, RFC 9562 section 5.5): the same row of the same import gets the same one, so that sending
 * it again after an interruption makes no second token.
 * @param importId UUID of the import
 */
export function rowRequestId(importId: string, line: number): string {
  return nameUuid(`line ${line}`, importId);
}
