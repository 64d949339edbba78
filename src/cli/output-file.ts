import { lstat, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { usageFailure } from "./command-failure.js";

/** Whether there is anything of this name, a link that leads nowhere included. */
export async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/** @throws CommandFailure if the folder that a file is to be written into is missing */
export async function requireFolder(file: string): Promise<void> {
  const folder = dirname(file);
  try {
    await stat(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw usageFailure(`the folder ${folder} does not exist`);
  }
}
