import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

const run = promisify(execFile);

/**
 * Names a process for good: its ID and when it began, since IDs are used again. Undefined if there is no such process.
 * @param pid process ID
 */
export async function processIdentity(pid: number): Promise<string | undefined> {
  try {
    if (process.platform === "linux") {
      // proc(5): the name stands in parentheses and may hold anything; field 3 is the state, field 22 the start in ticks.
      const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).replace(/^.*\)\s/s, "").split(" ");
      return fields[0] === "Z" ? undefined : `${pid} ${fields[19] ?? ""}`;
    }
    const { stdout } = await run("ps", ["-o", "lstart=", "-p", String(pid)]);
    return `${pid} ${stdout.trim()}`;
  } catch {
    return undefined;
  }
}

/** Whether the process that `identity` names still runs. */
export async function isRunning(identity: string): Promise<boolean> {
  const pid = Number(identity.split(" ")[0]);
  return Number.isSafeInteger(pid) && pid > 1 && (await processIdentity(pid)) === identity;
}
