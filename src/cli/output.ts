import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { CardBrand, CardStatus, type MaskedView } from "../../gen/cardex/v1/card_pb.js";

/** A message as one line of JSON, as ProtoJSON writes it. */
export function jsonLine<S extends DescMessage>(schema: S, message: MessageShape<S>): string {
  return JSON.stringify(toJson(schema, message, { alwaysEmitImplicit: true }));
}

/** Names and values under each other, for people. Rows without a value are left out. */
export function facts(rows: readonly (readonly [name: string, value: string | undefined])[]): string {
  const shown = rows.filter((row): row is readonly [string, string] => row[1] !== undefined && row[1] !== "");
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${printable(value)}`).join("\n");
}

/** A table with aligned columns, for people. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows.map((row) => row.map(printable))];
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  return all.map((row) => row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join("  ")).join("\n");
}

/** Without control characters: what others chose must not steer the terminal. */
export function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, "?");
}

/** `453201******1234`, brand and expiry. */
export function maskedText(masked: MaskedView | undefined): string | undefined {
  if (masked === undefined) return undefined;
  const hidden = "*".repeat(Math.max(0, masked.panLength - masked.bin.length - masked.lastFour.length));
  const brand = masked.brand === CardBrand.UNSPECIFIED ? [] : [enumText(CardBrand, masked.brand)];
  const expiry = masked.expiry === undefined ? [] : [`${masked.expiry.year}-${String(masked.expiry.month).padStart(2, "0")}`];
  return [`${masked.bin}${hidden}${masked.lastFour}`, ...brand, ...expiry].join("  ");
}

/** The name of a card status, lower case. */
export function statusText(status: CardStatus): string {
  return enumText(CardStatus, status);
}

/** The name of an enum value, lower case with hyphens, as options take it. */
export function enumText(values: Readonly<Record<number, string>>, value: number): string {
  return (values[value] ?? String(value)).toLowerCase().replaceAll("_", "-");
}

/** A timestamp in RFC 3339, UTC. */
export function timeText(time: Timestamp | undefined): string | undefined {
  return time === undefined ? undefined : timestampDate(time).toISOString();
}
