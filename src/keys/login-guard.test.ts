import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openHsm } from "../../hsm/driver.js";
import { freshDatabase, type FreshDatabase } from "../../test/support/database.js";
import { freshToken, silentObserver, type FreshToken } from "../../test/support/token.js";
import { Secret } from "../secret.js";
import { Database } from "../store/database.js";
import { clearRefusal, StoredLoginGuard } from "./login-guard.js";

describe("the login guard over PostgreSQL", () => {
  let fresh: FreshDatabase;
  let token: FreshToken;
  let service: Database;
  let owner: Database;

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

  it("records nothing when the login failed for another reason than the PIN", async () => {
    const guard = new StoredLoginGuard(service);
    await expect(guard.attempt("a third token", () => Promise.reject(new Error("token away")))).rejects.toThrow("token away");
    await expect(guard.attempt("a third token", () => Promise.resolve(true))).resolves.toBeUndefined();
  });

  it("does not let the service's role clear a refusal", async () => {
    await expect(clearRefusal(service, "serial of another token")).rejects.toMatchObject({ code: "42501" });
  });
});
