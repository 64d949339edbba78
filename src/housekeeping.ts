import type { Limits } from "./config.js";
import { ensurePartitions } from "./store/audit.js";
import type { Database } from "./store/database.js";
import { forgetRequests } from "./store/requests.js";

const every_ms = 600_000;
const rowsAtOnce = 5000;

/** A job that runs now and then until it is stopped. */
export interface Housekeeping {
  stop(): Promise<void>;
}

/**
 * What every server does every ten minutes: makes the audit partitions of the months ahead, and deletes request_ids that are past their
 * time. Harmless when several servers do it at once.
 */
export function startHousekeeping(database: Database, limits: Limits, onFailure: (error: unknown) => void): Housekeeping {
  let stopped = false;
  let running = Promise.resolve();
  const work = async (): Promise<void> => {
    await ensurePartitions(database);
    while (!stopped && (await forgetRequests(database, limits.requestIdKept_hours, rowsAtOnce)) === rowsAtOnce);
  };
  const timer = setInterval(() => {
    running = running.then(work).catch(onFailure);
  }, every_ms);
  timer.unref();
  return {
    stop: async () => {
      stopped = true;
      clearInterval(timer);
      await running;
    },
  };
}
