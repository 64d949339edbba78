import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openHsm } from "../../hsm/driver.js";
import { HsmError } from "../../hsm/hsm.js";
import { freshDatabase, type FreshDatabase } from "../../test/support/database.js";
import { dieInLogin } from "../../test/support/login-process.js";
import { openProxy } from "../../test/support/postgres-proxy.js";
import { freshToken, silentObserver, type FreshToken } from "../../test/support/token.js";
import { Secret } from "../secret.js";
import { Database } from "../store/database.js";
import { clearRefusal, StoredLoginGuard } from "./login-guard.js";

describe("the login guard over PostgreSQL", () => {
  let fresh: FreshDatabase;
  let token: FreshToken;
  let service: Database;
  let owner: Database;

  const admin = async (text: string, values: unknown[] = []): Promise<Record<string, unknown>[]> => {
    const client = new pg.Client({ connectionString: fresh.adminUrl });
    await client.connect();
    const { rows } = await client.query<Record<string, unknown>>(text, values);
    await client.end();
    return rows;
  };
  const rowsOf = (serial: string) => admin("select state, attempts_unknown from cardex.hsm_logins where token_serial = $1", [serial]);
  /** Ends the connections that hold locks on logins, and waits until they are gone. */
  const endSessions = () => admin("select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'cardex hsm login' and datname = current_database()");
  const never = (): Promise<boolean> => Promise.reject(new Error("the PIN was tried"));
  const lost = (): Promise<boolean> => Promise.reject(new Error("lost"));

  beforeAll(async () => {
    [fresh, token] = await Promise.all([freshDatabase(), freshToken()]);
    service = new Database(fresh.service);
    owner = new Database({ ...fresh.service, url: fresh.ownerUrl, role: "cardex_owner" });
  });

  afterAll(async () => {
    await Promise.all([service.close(), owner.close()]);
    await Promise.all([fresh.close(), token.close()]);
  });

  it("lets a refused PIN be tried once, and nobody after it, not even with the right one, until an operator clears it", async () => {
    const wrong = { ...token.options, pin: new Secret("a wrong PIN") };
    await expect(openHsm(wrong, new StoredLoginGuard(service), silentObserver)).rejects.toMatchObject({ errorClass: "login" });

    // Another guard is another process, or this one after a restart.
    let attempts = 0;
    const restarted = new StoredLoginGuard(service);
    const counting = {
      attempt: (serial: string, login: () => Promise<boolean>) =>
        restarted.attempt(serial, () => {
          attempts += 1;
          return login();
        }),
    };
    await expect(openHsm(token.options, counting, silentObserver)).rejects.toThrow("cardex keys clear-refusal");
    expect(attempts).toBe(0);

    expect(await clearRefusal(owner, token.serial)).toMatchObject({ process: process.pid });
    expect(await clearRefusal(owner, token.serial)).toBeUndefined();
    const hsm = await openHsm(token.options, counting, silentObserver);
    expect(attempts).toBe(1);
    await hsm.close();
  });

  it("lets one process at a time log in: of many at once with a refused PIN, one tries", async () => {
    let attempts = 0;
    const refused = (): Promise<boolean> => {
      attempts += 1;
      return Promise.resolve(false);
    };
    const all = Array.from({ length: 5 }, () => new StoredLoginGuard(service).attempt("serial of another token", refused));
    const outcomes = await Promise.allSettled(all);
    expect(outcomes.map((each) => each.status)).toEqual(Array.from({ length: 5 }, () => "rejected"));
    expect(attempts).toBe(1);
  });

  it("takes a failure that is not the PIN's for what it is: the token was asked nothing, and nothing is recorded", async () => {
    const guard = new StoredLoginGuard(service);
    const away = () => Promise.reject(new HsmError("device", "C_Login: CKR_DEVICE_ERROR", { ckr: "CKR_DEVICE_ERROR" }));
    for (let turn = 0; turn < 4; turn += 1) await expect(guard.attempt("a third token", away)).rejects.toMatchObject({ errorClass: "device" });
    expect(await rowsOf("a third token")).toEqual([]);
    await guard.attempt("a third token", () => Promise.resolve(true));
  });

  it("lets a PIN be tried twice at the most when every process that tries it is killed in the middle of it", async () => {
    const serial = "a token of the killed";
    const outcomes = [];
    for (let turn = 0; turn < 4; turn += 1) outcomes.push(await dieInLogin(fresh.service, serial));
    expect(outcomes).toEqual([true, true, false, false]);
    await expect(new StoredLoginGuard(service).attempt(serial, never)).rejects.toThrow(/no known outcome.*cardex keys clear-refusal/);
    expect(await clearRefusal(owner, serial)).toMatchObject({ attemptsUnknown: 2 });
    await new StoredLoginGuard(service).attempt(serial, () => Promise.resolve(true));
    expect(await rowsOf(serial)).toEqual([]);
  });

  it("does not put a good PIN out of use for kills with a success between them", async () => {
    const serial = "a token of the good PIN";
    for (let turn = 0; turn < 3; turn += 1) {
      expect(await dieInLogin(fresh.service, serial)).toBe(true);
      await new StoredLoginGuard(service).attempt(serial, () => Promise.resolve(true));
    }
    expect(await rowsOf(serial)).toEqual([]);
  });

  it("remembers an unknown outcome through failures that are not the PIN's", async () => {
    const serial = "a token that is away, too";
    const away = () => Promise.reject(new HsmError("device", "C_Login: CKR_DEVICE_ERROR", { ckr: "CKR_DEVICE_ERROR" }));
    expect(await dieInLogin(fresh.service, serial)).toBe(true);
    await expect(new StoredLoginGuard(service).attempt(serial, away)).rejects.toMatchObject({ errorClass: "device" });
    expect(await dieInLogin(fresh.service, serial)).toBe(true);
    expect(await dieInLogin(fresh.service, serial)).toBe(false);
  });

  it("takes a login that gave no answer for one of which nobody knows the outcome", async () => {
    const serial = "a token that hangs";
    const guard = new StoredLoginGuard(service);
    const hung = () => Promise.reject(new HsmError("timeout", "login: no answer from the HSM in 30000 ms"));
    for (let turn = 0; turn < 2; turn += 1) await expect(guard.attempt(serial, hung)).rejects.toMatchObject({ errorClass: "timeout" });
    await expect(guard.attempt(serial, never)).rejects.toMatchObject({ errorClass: "login" });
  });

  it("records a refusal also when the connection ended in the middle of the login, and others have the lock by then", async () => {
    const serial = "a token behind a bad network";
    const other = new StoredLoginGuard(service);
    let attempts = 0;
    const login = async (): Promise<boolean> => {
      attempts += 1;
      await endSessions();
      return false;
    };
    await expect(new StoredLoginGuard(service).attempt(serial, login)).rejects.toMatchObject({ errorClass: "login" });
    for (let turn = 0; turn < 3; turn += 1) await expect(other.attempt(serial, login)).rejects.toMatchObject({ errorClass: "login" });
    expect(attempts).toBe(1);
    expect(await rowsOf(serial)).toMatchObject([{ state: "refused", attempts_unknown: 0 }]);
  });

  it("records a success also when the connection ended in the middle of the login", async () => {
    const serial = "a token behind a bad network, with a good PIN";
    for (let turn = 0; turn < 3; turn += 1) {
      await new StoredLoginGuard(service).attempt(serial, async () => {
        await endSessions();
        return true;
      });
    }
    expect(await rowsOf(serial)).toEqual([]);
  });

  it("tells a process that comes late that the outcome is known by now: a refusal stands", async () => {
    const serial = "a token with two masters";
    const late = new StoredLoginGuard(service).attempt(serial, async () => {
      await endSessions();
      // The lock is free, and the attempt of the one who lost it is one with an unknown outcome.
      await new StoredLoginGuard(service).attempt(serial, () => Promise.resolve(true));
      return false;
    });
    await expect(late).rejects.toMatchObject({ errorClass: "login" });
    await expect(new StoredLoginGuard(service).attempt(serial, never)).rejects.toThrow("refused the PIN");
  });

  it("records what it owes before it tries again, when PostgreSQL was away at the end of a login", async () => {
    const proxy = await openProxy(fresh.service.url);
    const far = new Database({ ...fresh.service, url: proxy.url });
    const guard = new StoredLoginGuard(far, { lock_ms: 5000, record_ms: 0 });
    const serial = "a token beside a database that went away";
    const alone = (): Promise<boolean> => {
      proxy.down();
      return Promise.resolve(true);
    };
    for (let turn = 0; turn < 3; turn += 1) {
      await expect(guard.attempt(serial, alone)).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
      expect(await rowsOf(serial)).toMatchObject([{ state: "attempt", attempts_unknown: 0 }]);
      proxy.up();
    }
    await guard.attempt(serial, () => Promise.resolve(true));
    expect(await rowsOf(serial)).toEqual([]);
    await far.close();
    await proxy.close();
  });

  it("does not wait without an end for another process that logs in", async () => {
    const serial = "a token that is slow";
    const impatient = new StoredLoginGuard(service, { lock_ms: 300, record_ms: 0 });
    await new StoredLoginGuard(service).attempt(serial, async () => {
      await expect(impatient.attempt(serial, never)).rejects.toMatchObject({ errorClass: "device" });
      return true;
    });
  });

  it("does not let the service's role clear a refusal", async () => {
    await expect(clearRefusal(service, "serial of another token")).rejects.toMatchObject({ code: "42501" });
    expect(await dieInLogin(fresh.service, "serial of a token once unknown")).toBe(true);
    await expect(new StoredLoginGuard(service).attempt("serial of a token once unknown", lost)).rejects.toThrow("lost");
    for (const text of [
      "update hsm_logins set state = 'attempt' where state = 'refused'",
      "delete from hsm_logins where state = 'refused'",
      "update hsm_logins set attempts_unknown = 0, state = 'attempt' where attempts_unknown = 1",
      "truncate hsm_logins",
    ]) {
      await expect(service.query({ name: `test ${text.slice(0, 50)}`, text }), text).rejects.toMatchObject({ code: "42501" });
    }
  });
});
