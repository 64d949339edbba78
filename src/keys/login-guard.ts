import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { HsmError, type LoginGuard } from "../../hsm/hsm.js";
import { clock } from "../clock.js";
import { Failure } from "../failure.js";
import type { Database, Queryable } from "../store/database.js";
import { beginLogin, deleteLoginRefusal, endLogin, tryLockLogin, type LoginAttempt, type LoginOutcome, type LoginRefusal } from "../store/login-refusals.js";

/** Times of waiting, milliseconds. A login itself takes at most `slowCall_ms` of hsm/token-link.ts. */
export interface LoginWaits {
  /** For another process that logs in to the same token. */
  readonly lock_ms: number;
  /** For PostgreSQL to take the outcome of a login that was made. */
  readonly record_ms: number;
}

const defaultWaits: LoginWaits = { lock_ms: 60_000, record_ms: 20_000 };
const lockEvery_ms = 100;
const recordEvery_ms = 250;

/**
 * LoginGuard over PostgreSQL: one login at a time over all processes and machines, and none after one that was refused. Tokens lock after a few
 * wrong PINs, and a supervisor that restarts the server would use these up.
 *
 * The attempt is committed before C_Login, under a session lock, and its outcome after it. An attempt found by the next holder of the lock is one of
 * which the maker was killed, or lost PostgreSQL, in between: whether the token refused the PIN, nobody knows any more. One such attempt may be
 * followed by another, so that a kill does not put a good PIN out of use; two count as a refusal. A success forgets them. So a wrong PIN is tried twice
 * at the most, whatever is killed or lost and when, and once where nothing is.
 */
export class StoredLoginGuard implements LoginGuard {
  readonly #database: Database;
  readonly #waits: LoginWaits;
  /** Outcomes that this process knows and PostgreSQL does not. */
  readonly #owed = new Map<LoginAttempt, LoginOutcome>();

  /** As the service or the owner. */
  constructor(database: Database, waits: LoginWaits = defaultWaits) {
    this.#database = database;
    this.#waits = waits;
  }

  /**
   * @throws HsmError "login" if a refusal is recorded, or was just now; "device" if another process holds on to the login for too long; Failure
   *   STORE_UNAVAILABLE, also when the login was made and that can't be recorded; what `login` throws
   */
  async attempt(tokenSerial: string, login: () => Promise<boolean>): Promise<void> {
    await this.#database.session("cardex hsm login", async (session) => {
      await this.#lock(session, tokenSerial);
      await this.#recordOwed();
      const attempt: LoginAttempt = { id: randomUUID(), tokenSerial, host: hostname(), process: process.pid };
      const recorded = await this.#begin(session, attempt);
      if (recorded !== undefined) throw refused(tokenSerial, recorded);
      await this.#try(attempt, login);
    });
  }

  async #begin(session: Queryable, attempt: LoginAttempt): Promise<LoginRefusal | undefined> {
    try {
      return await beginLogin(session, attempt);
    } catch (error) {
      // It may be committed nevertheless, and no login was made.
      this.#owed.set(attempt, "untold");
      throw error;
    }
  }

  async #try(attempt: LoginAttempt, login: () => Promise<boolean>): Promise<void> {
    let accepted: boolean;
    try {
      accepted = await login();
    } catch (error) {
      // Where the token itself named another failure than the PIN, the PIN was not used up; anything else leaves the outcome unknown.
      if (error instanceof HsmError && error.ckr !== undefined) await this.#end(attempt, "untold");
      throw error;
    }
    if (accepted) return await this.#end(attempt, "accepted");
    const refusal = { ...attempt, refusedAt: new Date(clock.now_ms()), attemptsUnknown: 0 };
    try {
      await this.#end(attempt, "refused");
    } catch (error) {
      throw refused(attempt.tokenSerial, refusal, error);
    }
    throw refused(attempt.tokenSerial, refusal);
  }

  /** Not on the session, which may have been lost during the login. */
  async #end(attempt: LoginAttempt, outcome: LoginOutcome): Promise<void> {
    this.#owed.set(attempt, outcome);
    const until_ms = clock.monotonic_ms() + this.#waits.record_ms;
    for (;;) {
      try {
        return await this.#recordOwed();
      } catch (error) {
        const away = error instanceof Failure && error.reason === "STORE_UNAVAILABLE";
        if (!away || clock.monotonic_ms() >= until_ms) throw error;
        await sleep(recordEvery_ms);
      }
    }
  }

  async #recordOwed(): Promise<void> {
    for (const [attempt, outcome] of this.#owed) {
      await endLogin(this.#database, attempt, outcome);
      this.#owed.delete(attempt);
    }
  }

  async #lock(session: Queryable, tokenSerial: string): Promise<void> {
    const until_ms = clock.monotonic_ms() + this.#waits.lock_ms;
    while (!(await tryLockLogin(session, tokenSerial))) {
      if (clock.monotonic_ms() >= until_ms) throw new HsmError("device", `another process has been logging in to token ${tokenSerial} for too long`);
      await sleep(lockEvery_ms);
    }
  }
}

function refused(tokenSerial: string, { refusedAt, host, process, attemptsUnknown }: LoginRefusal, cause?: unknown): HsmError {
  const what =
    attemptsUnknown < 2
      ? `token ${tokenSerial} refused the PIN at ${refusedAt.toISOString()} (process ${process} on ${host}); it is not tried again. Correct the PIN, then run: cardex keys clear-refusal`
      : `${attemptsUnknown} logins to token ${tokenSerial} had no known outcome, the last one of process ${process} on ${host}: it ended, or lost the token or PostgreSQL, ` +
        "in the middle of it. A wrong PIN may have been used up twice, so it is not tried again. Make sure that it is right, then run: cardex keys clear-refusal";
  return new HsmError("login", what, { cause });
}

/** An operator says that the PIN is right now. Needs the owner role. Answers with the refusal, if there was one. */
export function clearRefusal(owner: Database, tokenSerial: string): Promise<LoginRefusal | undefined> {
  return deleteLoginRefusal(owner, tokenSerial);
}
