import { readFile } from "node:fs/promises";
import type { z } from "zod";
import type { CommandFailure } from "./command-failure.js";

/**
 * Reads a small JSON file that a command keeps beside its output.
 * @param wrong what to say of a file that is not of this form
 * @returns undefined if there is none
 * @throws what `wrong` makes; the error of the file system, as it is, if the file can't be read
 */
export async function readKeptFile<T>(file: string, schema: z.ZodType<T>, wrong: (cause: unknown) => CommandFailure): Promise<T | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw wrong(error);
  }
}
