import { usageFailure } from "../command-failure.js";

/** What a row may hold, by the column that it is found in where --column names no other. */
export const importFields = ["pan", "expiry", "expiry_month", "expiry_year", "cardholder_name", "external_reference"] as const;
export type ImportField = (typeof importFields)[number];

/** Where each field stands in a row. */
export interface Columns {
  readonly count: number;
  readonly at: Readonly<Partial<Record<ImportField, number>>>;
}

/** Reads `field=name` pairs. @throws CommandFailure */
export function readColumnOptions(pairs: readonly string[]): Partial<Record<ImportField, string>> {
  const names: Partial<Record<ImportField, string>> = {};
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    const field = importFields.find((each) => each === pair.slice(0, at));
    if (field === undefined || at === pair.length - 1) throw usageFailure(`--column: must be field=name; fields are ${importFields.join(", ")}`);
    names[field] = pair.slice(at + 1);
  }
  return names;
}

/**
 * Finds the fields in the header. Its own words are never repeated: in a file without a header it holds a card number.
 * @throws CommandFailure
 */
export function findColumns(header: readonly string[], names: Partial<Record<ImportField, string>>): Columns {
  const known = header.map((name) => name.trim().toLowerCase());
  const at: Partial<Record<ImportField, number>> = {};
  for (const field of importFields) {
    const name = (names[field] ?? field).toLowerCase();
    const found = known.indexOf(name);
    if (found === -1 && names[field] !== undefined) throw usageFailure(`the header has no column "${names[field]}", which --column gives for ${field}`);
    if (found !== -1 && known.includes(name, found + 1)) throw usageFailure(`the header has two columns for ${field}`);
    if (found !== -1) at[field] = found;
  }
  if (at.pan === undefined) throw usageFailure('the first line must be a header with a column "pan"; if it is called otherwise: --column pan=NAME; if no comma separates the columns: --delimiter');
  if (at.expiry === undefined && (at.expiry_month === undefined || at.expiry_year === undefined)) {
    throw usageFailure('the header needs a column "expiry", or "expiry_month" and "expiry_year"; if they are called otherwise: --column expiry=NAME');
  }
  return { count: header.length, at };
}
