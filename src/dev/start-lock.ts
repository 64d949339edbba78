import { link, open, rename, rm } from "node:fs/promises";
import { Obstacle } from "./obstacle.js";
import { readIfThere } from "./files.js";
import { isRunning, processIdentity } from "./process-identity.js";

/**
 * Makes this process the only start in a state folder. A lock that a killed start left is taken over.
 * @returns a function that gives it up
 * @throws Obstacle if another start holds it
 */
export async function takeStartLock(path: string): Promise<() => Promise<void>> {
  const mine = await processIdentity(process.pid);
  if (mine === undefined) throw new Error("unreachable: this process runs");
  for (let attempt = 0; attempt < 5; attempt += 1) {
    if (await create(path, mine)) return async () => await rm(path, { force: true });
    const holder = await readIfThere(path);
    if (holder === undefined) continue;
    if (await isRunning(holder)) {
      throw new Obstacle(`a vault of this checkout is running or starting already (process ${holder.split(" ")[0]}): use it, or end it there with Ctrl-C`);
    }
    await removeStale(path, holder, mine);
  }
  throw new Obstacle(`${path} changes all the time: another start is under way; try again when it is done`);
}

async function create(path: string, content: string): Promise<boolean> {
  const unfinished = `${path}.${process.pid}`;
  const file = await open(unfinished, "w", 0o600);
  await file.writeFile(content);
  await file.close();
  try {
    // A link is made with its content, or not at all.
    await link(unfinished, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  } finally {
    await rm(unfinished, { force: true });
  }
}

/** Another start may have taken over meanwhile: what was moved away is put back if it is not the stale one. */
async function removeStale(path: string, stale: string, mine: string): Promise<void> {
  const aside = `${path}.stale.${mine.split(" ")[0]}`;
  try {
    await rename(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  if ((await readIfThere(aside)) !== stale) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
}
