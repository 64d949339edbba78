import { createHash, randomUUID } from "node:crypto";
import { rm, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { CommandFailure } from "../command-failure.js";
import { exitCodes } from "../exit-codes.js";
import { exists, requireFolder } from "../output-file.js";
import { type ImportProgress, progressFileOf, readProgress } from "./progress-file.js";

/** What decides where an import begins. */
export interface BeginOptions {
  /** Path of the input; "-" is stdin. */
  readonly input: string;
  readonly out: string;
  readonly rejects: string;
  /** Throw away what is there and start over. */
  readonly force: boolean;
  /** The options that decide what rows become; any JSON. */
  readonly meaning: object;
}

/**
 * Where to begin: at the start, or where an interrupted run of the same import stopped. Nothing is overwritten that is not this
 * import's own, unless forced.
 * @throws CommandFailure
 */
export async function beginImport(options: BeginOptions): Promise<ImportProgress> {
  await refuseOneFileForTwo(options);
  const fresh = await freshProgress(options);
  for (const file of [options.out, options.rejects]) await requireFolder(file);
  const progressFile = progressFileOf(options.out);
  if (options.force) {
    await rm(progressFile, { force: true });
    return fresh;
  }
  const found = options.input === "-" ? undefined : await readProgress(progressFile);
  if (found !== undefined) {
    if (found.fingerprint !== fresh.fingerprint) throw refused(`${progressFile} belongs to an import with other options; give those again, or start over with --force`);
    if (found.input.size_bytes !== fresh.input.size_bytes || found.input.modified_ms !== fresh.input.modified_ms) {
      throw refused(`${options.input} changed since the import began; start over with --force`);
    }
    return found;
  }
  for (const file of [options.out, options.rejects]) {
    if (await exists(file)) throw refused(`${file} exists already; choose another name, or replace it with --force`);
  }
  return fresh;
}

async function freshProgress(options: BeginOptions): Promise<ImportProgress> {
  const input = options.input === "-" ? undefined : await stat(options.input);
  if (input?.isFile() === false) throw refused(`${options.input} is not a file; to read from a pipe, give - as the input`);
  return {
    version: 1,
    fingerprint: createHash("sha256").update(JSON.stringify(options.meaning)).digest("hex"),
    input: { size_bytes: input?.size ?? 0, modified_ms: input?.mtimeMs ?? 0 },
    importId: randomUUID(),
    lines: 0,
    bytes: 0,
    out_bytes: 0,
    rejects_bytes: 0,
    newCards: 0,
    knownCards: 0,
    rejected: 0,
  };
}

/** Forced or not: an output that is the input would end the only copy of the cards. */
async function refuseOneFileForTwo({ input, out, rejects }: BeginOptions): Promise<void> {
  if (await isOneFile(out, rejects)) throw refused(`${rejects} can't be the file of the tokens and of the rejects; choose another name`);
  if (input === "-") return;
  for (const file of [out, rejects]) {
    if (await isOneFile(input, file)) throw refused(`${file} is the input; choose another name`);
  }
}

async function isOneFile(one: string, other: string): Promise<boolean> {
  if (resolve(one) === resolve(other)) return true;
  const [first, second] = await Promise.all([fileId(one), fileId(other)]);
  return first !== undefined && first === second;
}

/** The same for all names of a file; undefined if there is none. */
async function fileId(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path, { bigint: true });
    return `${dev} ${ino}`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function refused(message: string): CommandFailure {
  return new CommandFailure(exitCodes.usage, message);
}
