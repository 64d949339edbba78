import { rename, rm, writeFile } from "node:fs/promises";
import { z } from "zod";
import { CommandFailure } from "../command-failure.js";
import { exitCodes } from "../exit-codes.js";
import { readKeptFile } from "../kept-file.js";
import type { ExportRange } from "./heads-file.js";

const schema = z.strictObject({
  version: z.literal(1),
  from: z.string().nullable(),
  to: z.string().nullable(),
  /** Where the server goes on. */
  cursor: z.string(),
  /** Length of the file at that point. */
  length_bytes: z.number().int(),
});

/** How far an export has come. */
export type ExportCursor = z.infer<typeof schema>;

/** The file beside an export under way. */
export function cursorFileOf(file: string): string {
  return `${file}.cursor`;
}

/** @returns undefined if there is none. @throws CommandFailure if it is another range's, or none at all */
export async function readCursor(file: string, range: ExportRange): Promise<ExportCursor | undefined> {
  const cursor: ExportCursor | undefined = await readKeptFile(
    file,
    schema,
    (cause) => new CommandFailure(exitCodes.failed, `${file} is not the cursor of an export; remove it, or start over with --force`, cause),
  );
  if (cursor === undefined) return undefined;
  if (cursor.from !== range.from || cursor.to !== range.to) {
    throw new CommandFailure(exitCodes.usage, `${file} belongs to an export of other times; give those again, or start over with --force`);
  }
  return cursor;
}

/** Replaces the cursor as a whole. */
export async function writeCursor(file: string, cursor: ExportCursor): Promise<void> {
  await writeFile(`${file}.new`, `${JSON.stringify(cursor)}\n`, { mode: 0o600 });
  await rename(`${file}.new`, file);
}

export async function removeCursor(file: string): Promise<void> {
  await rm(file, { force: true });
}
