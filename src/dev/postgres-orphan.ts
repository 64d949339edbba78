import { execFile } from "node:child_process";
import { readFile, readlink, realpath, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Obstacle } from "./obstacle.js";

const run = promisify(execFile);

/**
 * Clears what an earlier start left on a cluster: a postmaster that still runs is shut down, a lock file of one that does not
 * is removed. A process is touched only if it is a postmaster of this very data folder: process IDs are used again.
 * @throws Obstacle if it does not end
 */
export async function stopOrphan(data: string, announce: (line: string) => void): Promise<void> {
  const lockFile = join(data, "postmaster.pid");
  const pid = Number((await readFile(lockFile, "utf8").catch(() => "")).split("\n")[0]);
  if (!Number.isSafeInteger(pid) || pid <= 1) return;
  if (!(await isPostmasterOf(pid, data))) {
    await rm(lockFile, { force: true });
    return;
  }
  announce("ending the PostgreSQL that an earlier start left behind");
  process.kill(pid, "SIGINT");
  for (let waited_ms = 0; await isPostmasterOf(pid, data); waited_ms += 50) {
    if (waited_ms === 20_000) process.kill(pid, "SIGQUIT");
    if (waited_ms > 30_000) throw new Obstacle(`PostgreSQL (process ${pid}) of an earlier start does not end: end it by hand, then start again`);
    await sleep(50);
  }
}

/** A postmaster's working folder is its data folder. Elsewhere than on Linux the command line has to tell. */
async function isPostmasterOf(pid: number, data: string): Promise<boolean> {
  try {
    if (process.platform === "linux") {
      const name = await readFile(`/proc/${pid}/comm`, "utf8");
      return name.trim() === "postgres" && (await readlink(`/proc/${pid}/cwd`)) === (await realpath(data));
    }
    const { stdout } = await run("ps", ["-o", "command=", "-p", String(pid)]);
    return stdout.includes("postgres") && stdout.includes(data);
  } catch {
    return false;
  }
}
