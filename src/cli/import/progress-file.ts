import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { CommandFailure } from "../command-failure.js";
import { exitCodes } from "../exit-codes.js";
import { readKeptFile } from "../kept-file.js";

const schema = z.strictObject({
  version: z.literal(1),
  /** SHA-256 over the options that decide what the rows become. */
  fingerprint: z.string(),
  input: z.strictObject({ size_bytes: z.number(), modified_ms: z.number() }),
  /** Names the import; request IDs follow from it. */
  importId: z.uuid(),
  /** Lines and bytes of the input whose results are on disk. */
  lines: z.number().int(),
  bytes: z.number().int(),
  /** Length of the outputs at that point. What lies behind it is cut off when the import goes on. */
  out_bytes: z.number().int(),
  rejects_bytes: z.number().int(),
  newCards: z.number().int(),
  knownCards: z.number().int(),
  rejected: z.number().int(),
  /** The process that goes on with the import: the one that came last. */
  run: z.string().optional(),
});

/** How far an import has come. Holds nothing of any row. */
export type ImportProgress = z.infer<typeof schema>;

/** The file beside the output. */
export function progressFileOf(out: string): string {
  return `${out}.progress`;
}

/** @returns undefined if there is none. @throws CommandFailure if it is not one */
export async function readProgress(file: string): Promise<ImportProgress | undefined> {
  return readKeptFile(
    file,
    schema,
    (cause) => new CommandFailure(exitCodes.failed, `${file} is not a progress file of cardex import; remove it, or start over with --force`, cause),
  );
}

/**
 * Replaces the file as a whole, durably: after a crash there is the old one or the new one.
 * @param mayReplace throws if the one that is there is not to be replaced; asked at the last moment
 */
export async function writeProgress(file: string, progress: ImportProgress, mayReplace?: () => Promise<void>): Promise<void> {
  const next = `${file}.${process.pid}.new`;
  const handle = await open(next, "w", 0o600);
  try {
    await handle.writeFile(`${JSON.stringify(progress)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  try {
    await mayReplace?.();
    await rename(next, file);
  } catch (error) {
    await rm(next, { force: true });
    throw error;
  }
  await syncFolder(dirname(file));
}

export async function removeProgress(file: string): Promise<void> {
  await rm(file, { force: true });
  await syncFolder(dirname(file));
}

/** Makes a rename or removal in a folder durable. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
