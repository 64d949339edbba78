import { chmod, open, readFile, rename } from "node:fs/promises";

/**
 * Writes a file wholly or not at all: under another name, synced, then renamed. The mode is set whatever the umask.
 * @param mode for example 0o600
 */
export async function writeWhole(path: string, content: string, mode: number): Promise<void> {
  const unfinished = `${path}.${process.pid}.new`;
  const file = await open(unfinished, "w", mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await chmod(unfinished, mode);
  await rename(unfinished, path);
}

/** The text of a file, or undefined if there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
