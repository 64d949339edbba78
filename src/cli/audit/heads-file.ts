import { writeFile } from "node:fs/promises";
import { z } from "zod";
import type { ChainHead, ExpectedEnd } from "../../audit/verify-chain.js";
import { CommandFailure } from "../command-failure.js";
import { exitCodes } from "../exit-codes.js";
import { readKeptFile } from "../kept-file.js";

const schema = z.strictObject({
  version: z.literal(1),
  /** RFC 3339; null: the export had no start time, or no end time. */
  from: z.string().nullable(),
  to: z.string().nullable(),
  heads: z.array(z.strictObject({ stream: z.string(), seq: z.number().int().min(1), hash: z.string().regex(/^[0-9a-f]{64}$/) })),
});

/** The time range of an export, RFC 3339. */
export interface ExportRange {
  readonly from: string | null;
  readonly to: string | null;
}

/** The file beside an export that names the last entry of each of its streams. */
export function headsFileOf(file: string): string {
  return `${file}.heads.json`;
}

/** Keeps where each stream of a file ends, so that a line that is cut off or changed later is noticed. */
export async function writeHeads(file: string, range: ExportRange, heads: readonly ChainHead[]): Promise<void> {
  await writeFile(file, `${JSON.stringify({ version: 1, ...range, heads: heads.map(({ stream, seq, hash }) => ({ stream, seq, hash })) }, undefined, 2)}\n`, { mode: 0o600 });
}

/** @returns undefined if there is none. @throws CommandFailure if it can't be used */
export async function readHeads(file: string): Promise<ExpectedEnd | undefined> {
  const kept = await readKeptFile(file, schema, (cause) => new CommandFailure(exitCodes.unverified, `${file} does not hold the heads of an export`, cause));
  return kept === undefined ? undefined : { heads: kept.heads, fromBeginning: kept.from === null, toEnd: kept.to === null, exact: true };
}
