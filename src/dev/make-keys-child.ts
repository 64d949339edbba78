import { openHsm } from "../../hsm/driver.js";
import { hsmOptions } from "../../hsm/options.js";
import { readPin } from "../../hsm/pin.js";
import { readConfig } from "../config.js";
import { addTenant, initializeKeys } from "../keys/initialize.js";
import { StoredLoginGuard } from "../keys/login-guard.js";
import { Database } from "../store/database.js";

/** What `makeKeys` asks of the child process that this file is. */
export interface KeysOrder {
  readonly configFile: string;
  /** A login that may act as cardex_owner. */
  readonly ownerUrl: string;
  readonly tenants: readonly string[];
}

export interface KeysAnswer {
  /** Labels. */
  readonly made?: readonly string[];
  /** Why not: one line. */
  readonly problem?: string;
}

const by = "development set-up";

async function make(order: KeysOrder): Promise<string[]> {
  const config = readConfig(order.configFile);
  const owner = new Database({ ...config.database, url: order.ownerUrl, role: "cardex_owner" });
  try {
    const options = { ...hsmOptions(config, await readPin(config.hsm)), lanes: 1 };
    const hsm = await openHsm(options, new StoredLoginGuard(owner), { hung: () => process.kill(process.pid, "SIGKILL"), stateChanged: () => {} });
    try {
      const made = [...(await initializeKeys(hsm, hsm, owner, by)).made];
      for (const tenant of order.tenants) made.push(...(await addTenant(hsm, hsm, owner, by, tenant)).made);
      return made.map((key) => key.label);
    } finally {
      await hsm.close();
    }
  } finally {
    await owner.close();
  }
}

async function answer(order: KeysOrder): Promise<void> {
  let answered: KeysAnswer;
  try {
    answered = { made: await make(order) };
  } catch (error) {
    answered = { problem: error instanceof Error ? error.message : "unknown error" };
  }
  process.send?.(answered);
}

// The listener stays, and with it this process, until the parent has the answer and disconnects: the news of an exit can overtake a message.
process.on("message", (message) => void answer(message as KeysOrder));
