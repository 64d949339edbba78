import { hostname } from "node:os";
import { HsmError, type LoginGuard } from "../../hsm/hsm.js";
import type { Database } from "../store/database.js";
import { deleteLoginRefusal, findLoginRefusal, insertLoginRefusal, lockLogin, type LoginRefusal } from "../store/login-refusals.js";

/**
 * LoginGuard over PostgreSQL: one login at a time over all processes and machines, and none after one that was refused. Tokens lock after a few
 * wrong PINs, and a supervisor that restarts the server would use these up.
 */
export class StoredLoginGuard implements LoginGuard {
  readonly #database: Database;

  /** As the service or the owner. */
  constructor(database: Database) {
    this.#database = database;
  }

  /** @throws HsmError "login" if a refusal is recorded, or was just now; Failure STORE_UNAVAILABLE; what `login` throws */
  async attempt(tokenSerial: string, login: () => Promise<boolean>): Promise<void> {
    const refusal = await this.#database.transaction(async (tx): Promise<LoginRefusal | undefined> => {
      await lockLogin(tx, tokenSerial);
      const recorded = await findLoginRefusal(tx, tokenSerial);
      if (recorded !== undefined) return recorded;
      if (await login()) return undefined;
      return await insertLoginRefusal(tx, tokenSerial, hostname(), process.pid);
    });
    if (refusal === undefined) return;
    const when = `${refusal.refusedAt.toISOString()} (process ${refusal.process} on ${refusal.host})`;
    throw new HsmError(
      "login",
      `token ${tokenSerial} refused the PIN at ${when}; it is not tried again. Correct the PIN, then run: cardex keys clear-refusal`,
    );
  }
}

/** An operator says that the PIN is right now. Needs the owner role. Answers with the refusal, if there was one. */
export function clearRefusal(owner: Database, tokenSerial: string): Promise<LoginRefusal | undefined> {
  return deleteLoginRefusal(owner, tokenSerial);
}
