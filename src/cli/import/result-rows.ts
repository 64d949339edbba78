import { stringify } from "csv-stringify/sync";
import { CardBrand } from "../../../gen/cardex/v1/card_pb.js";
import type { TokenizeResponse } from "../../../gen/cardex/v1/token_service_pb.js";
import type { CardexError } from "../../client/error.js";
import { enumText } from "../output.js";
import type { CardRow, Reject } from "./row.js";

/** Columns of the output. */
export const tokenColumns = ["line", "external_reference", "token", "index_code", "bin", "last_four", "brand", "card_known"] as const;

/** Columns of the rejects file. */
export const rejectColumns = ["line", "reason", "field", "message"] as const;

/** What came of a row. */
export type RowResult = { readonly row: CardRow; readonly response: TokenizeResponse } | { readonly reject: Reject };

/** Why the server refused a row. Its messages hold no values. */
export function rejectOf(line: number, error: CardexError): Reject {
  const [violation] = error.violations;
  return { line, reason: error.reason, field: violation?.field ?? "", message: violation?.description ?? error.message };
}

/** Rows of the output, as CSV. There is no PAN in a TokenizeResponse, and none is taken from the row. */
export function tokenLines(results: readonly RowResult[]): string {
  const rows = results.flatMap((result) => ("response" in result ? [tokenRow(result.row, result.response)] : []));
  return rows.length === 0 ? "" : stringify(rows);
}

/** Rows of the rejects file, as CSV. */
export function rejectLines(results: readonly RowResult[]): string {
  const rows = results.flatMap((result) => ("reject" in result ? [[result.reject.line, result.reject.reason, result.reject.field, result.reject.message]] : []));
  return rows.length === 0 ? "" : stringify(rows);
}

function tokenRow(row: CardRow, { token, indexCode, masked, cardKnown }: TokenizeResponse): (string | number)[] {
  const brand = masked === undefined || masked.brand === CardBrand.UNSPECIFIED ? "" : enumText(CardBrand, masked.brand);
  return [row.line, row.externalReference, token, indexCode, masked?.bin ?? "", masked?.lastFour ?? "", brand, cardKnown ? "true" : "false"];
}
