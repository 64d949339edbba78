import type { Hsm } from "../hsm/hsm.js";
import type { Limits } from "./config.js";
import type { KeyRing } from "./keys/key-ring.js";
import { ensurePartitions } from "./store/audit.js";
import type { Database } from "./store/database.js";
import { forgetRequests } from "./store/requests.js";

const storeEvery_ms = 600_000;
const keysEvery_ms = 60_000;
const hsmEvery_ms = 5_000;
const rowsAtOnce = 5000;

export interface HousekeepingParts {
  readonly database: Database;
  readonly hsm: Hsm;
  readonly keys: KeyRing;
  readonly limits: Limits;
  /** A job failed; it runs again at its next turn. Keys that do not verify raise alerts of their own. */
  readonly onFailure: (job: string, error: unknown) => void;
}

/** Jobs that run now and then until they are stopped. */
export interface Housekeeping {
  stop(): Promise<void>;
}

/**
 * What every server does besides answering calls; harmless when several servers do it at once. The audit partitions of the months ahead
 * are made, and request_ids past their time deleted; every key in use is verified again (PCI DSS 3.7.7); and a known-answer
 * operation on the token notices one that has gone while the lanes still work on their copies.
 */
export function startHousekeeping(parts: HousekeepingParts): Housekeeping {
  const { database, hsm, keys, limits } = parts;
  let stopped = false;
  const jobs = [
    every(storeEvery_ms, "store", async () => {
      await ensurePartitions(database);
      while (!stopped && (await forgetRequests(database, limits.requestIdKept_hours, rowsAtOnce)) === rowsAtOnce);
    }),
    every(keysEvery_ms, "keys", async () => {
      await keys.verify();
    }),
    every(hsmEvery_ms, "hsm", async () => {
      await hsm.health();
    }),
  ];

  /** One run at a time; a turn that comes while one is under way is left out. */
  function every(period_ms: number, name: string, work: () => Promise<void>): { timer: NodeJS.Timeout; running: () => Promise<void> | undefined } {
    let running: Promise<void> | undefined;
    const timer = setInterval(() => {
      running ??= work()
        .catch((error: unknown) => parts.onFailure(name, error))
        .finally(() => (running = undefined));
    }, period_ms);
    timer.unref();
    return { timer, running: () => running };
  }

  return {
    stop: async () => {
      stopped = true;
      for (const { timer } of jobs) clearInterval(timer);
      for (const { running } of jobs) await running();
    },
  };
}
