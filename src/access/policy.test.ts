import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../test/support/database.js";
import { openProxy } from "../../test/support/postgres-proxy.js";
import { openLog } from "../log.js";
import { Database } from "../store/database.js";
import { applyPolicy, defaultPolicy, grantRole, readPolicy, revokeRole } from "./administration.js";
import { Policy } from "./policy.js";
import { PolicyError } from "./rules.js";

const gateway = { id: "spiffe://cardex.test/tenant/acme/gateway", tenant: "acme" };
const tokenize = { principal: gateway, service: "TokenService", method: "Tokenize", purpose: undefined };
const log = openLog("silent");

let fresh: FreshDatabase;
let owner: Database;
let service: Database;
let open: Policy[];

beforeAll(async () => {
  fresh = await freshDatabase();
  owner = new Database({ ...fresh.service, url: fresh.ownerUrl, role: "cardex_owner" });
  service = new Database(fresh.service);
});

afterAll(async () => {
  await owner.close();
  await service.close();
  await fresh.close();
});

beforeEach(async () => {
  open = [];
  await applyPolicy(owner, await defaultPolicy());
  await grantRole(owner, gateway.id, "acme", "payment-gateway");
});

afterEach(async () => {
  await Promise.all(open.map((policy) => policy.close()));
});

async function openPolicy(database = service): Promise<Policy> {
  const policy = await Policy.open(database, fresh.service, { decisionCache: 1000 }, log);
  open.push(policy);
  return policy;
}

/** Connections of policies to this database. */
async function listeners(): Promise<number> {
  const text = "select count(*)::int as count from pg_stat_activity where application_name = 'cardex policy' and datname = current_database()";
  return (await owner.query<{ count: number }>({ name: "test_listeners", text }))[0]?.count ?? 0;
}

describe("the policy", () => {
  test("knows those who have a role, in their tenant alone", async () => {
    const policy = await openPolicy();
    expect(policy.knows(gateway)).toBe(true);
    expect(policy.knows({ ...gateway, tenant: "system" })).toBe(false);
    expect(policy.knows({ id: `${gateway.id}2`, tenant: "acme" })).toBe(false);
    expect(policy.knowsTenant("acme")).toBe(true);
    expect(policy.knowsTenant("other")).toBe(false);
    expect(policy.decide(tokenize)).toBe(true);
    expect(policy.view(gateway)).toBe("masked");
    expect(policy.mayUseScope(gateway, "", "PAYMENT")).toBe(true);
    expect(policy.mayUseScope(gateway, "merchant-7", "PAYMENT")).toBe(true);
    const nobody = { id: "spiffe://cardex.test/tenant/acme/nobody", tenant: "acme" };
    expect(policy.decide({ ...tokenize, principal: nobody })).toBe(false);
    expect(policy.view(nobody)).toBe("nothing");
    expect(policy.mayUseScope(nobody, "", "PAYMENT")).toBe(false);
  });

  test("decides scopes for the purpose of the call", async () => {
    const rules = `${await defaultPolicy()}\np, ${gateway.id}, *, scope, m1, MIGRATION, deny\n`;
    const policy = await openPolicy();
    await applyPolicy(owner, rules);
    await policy.refresh((await readPolicy(owner)).version);
    expect(policy.mayUseScope(gateway, "m1", "MIGRATION")).toBe(false);
    expect(policy.mayUseScope(gateway, "m1", "PAYMENT")).toBe(true);
    expect(policy.mayUseScope(gateway, "m2", "MIGRATION")).toBe(true);
  });

  test("takes effect on every server when it is changed on one, and a decision made before does not outlive it", async () => {
    const [one, other] = [await openPolicy(), await openPolicy(owner)];
    expect([one.decide(tokenize), other.decide(tokenize)]).toEqual([true, true]);
    expect(await revokeRole(owner, gateway.id, "acme", "payment-gateway")).toBe(true);
    await vi.waitFor(
      () => {
        expect([one.decide(tokenize), other.decide(tokenize)]).toEqual([false, false]);
      },
      { timeout: 1000, interval: 10 },
    );
    expect([one.knows(gateway), other.knows(gateway)]).toEqual([false, false]);
  });

  test("is at the version asked for once refresh returns, whoever asks at the same time", async () => {
    const policy = await openPolicy();
    await revokeRole(owner, gateway.id, "acme", "payment-gateway");
    const { version } = await readPolicy(owner);
    await Promise.all(Array.from({ length: 20 }, () => policy.refresh(version)));
    expect(policy.version).toBe(version);
    expect(policy.decide(tokenize)).toBe(false);
  });

  test("is not said to be of a version that the database does not have", async () => {
    const policy = await openPolicy();
    await expect(policy.refresh(policy.version + 1000)).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
  });

  test("stays in use while the database is away, and is followed again afterwards", async () => {
    const policy = await openPolicy();
    const admin = new pg.Client({ connectionString: fresh.adminUrl });
    await admin.connect();
    await admin.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
    await admin.end();
    expect(policy.decide(tokenize)).toBe(true);
    await vi.waitFor(() => revokeRole(owner, gateway.id, "acme", "payment-gateway"));
    await vi.waitFor(() => expect(policy.decide(tokenize)).toBe(false), { timeout: 5000, interval: 20 });
  });

  test("is let go in a bounded time where PostgreSQL hangs", async () => {
    const proxy = await openProxy(fresh.service.url);
    const before = await listeners();
    const policy = await Policy.open(service, { ...fresh.service, url: proxy.url, connect_ms: 300 }, { decisionCache: 1000 }, log);
    await vi.waitFor(async () => expect(await listeners()).toBe(before + 1));
    // The connection has said LISTEN.
    await sleep(300);
    proxy.hang();
    const start_ms = performance.now();
    await policy.close();
    expect(performance.now() - start_ms).toBeLessThan(2000);
    await proxy.close();
  });

  test("leaves no connection behind where LISTEN is refused, tries it again a second later, and is followed by its version meanwhile", async () => {
    const proxy = await openProxy(fresh.service.url);
    proxy.spoil("LISTEN");
    const before = await listeners();
    const dedicated = vi.spyOn(Database, "dedicated");
    const policy = await Policy.open(service, { ...fresh.service, url: proxy.url }, { decisionCache: 1000 }, log);
    open.push(policy);
    await sleep(2500);
    expect(dedicated.mock.calls.length).toBeGreaterThanOrEqual(2);
    expect(dedicated.mock.calls.length).toBeLessThanOrEqual(3);
    await vi.waitFor(async () => expect(await listeners()).toBe(before));
    await revokeRole(owner, gateway.id, "acme", "payment-gateway");
    await vi.waitFor(() => expect(policy.decide(tokenize)).toBe(false));
    await policy.close();
    dedicated.mockRestore();
    await proxy.close();
  });
});

describe("changing the policy", () => {
  test("replaces rules whole or not at all, and keeps grants where the text has none", async () => {
    const before = await readPolicy(owner);
    await expect(applyPolicy(owner, "p, payment-gateway, *, TokenService, *, *, allow\np, x")).rejects.toThrow("line 2");
    expect(await readPolicy(owner)).toEqual(before);
    await applyPolicy(owner, "p, payment-gateway, *, TokenService, GetToken, *, allow");
    const { version, rows } = await readPolicy(owner);
    expect(version).toBeGreaterThan(before.version);
    expect(rows).toEqual([
      { ptype: "p", values: ["payment-gateway", "*", "TokenService", "GetToken", "*", "allow"] },
      { ptype: "g", values: [gateway.id, "payment-gateway", "acme"] },
    ]);
  });

  test("does not take away the rules of a role that someone has", async () => {
    await expect(applyPolicy(owner, "p, auditor, *, AuditService, *, *, allow")).rejects.toThrow('no rule for the role "payment-gateway"');
  });

  test("grants and revokes once, and says so", async () => {
    expect(await grantRole(owner, gateway.id, "acme", "auditor")).toBe(true);
    expect(await grantRole(owner, gateway.id, "acme", "auditor")).toBe(false);
    expect(await revokeRole(owner, gateway.id, "acme", "auditor")).toBe(true);
    expect(await revokeRole(owner, gateway.id, "acme", "auditor")).toBe(false);
    await expect(grantRole(owner, gateway.id, "acme", "boss")).rejects.toThrow(PolicyError);
    await expect(grantRole(owner, gateway.id, "other", "auditor")).rejects.toThrow('of tenant "acme"');
  });

  test("counts a version with every change, also one made by hand", async () => {
    const before = (await readPolicy(owner)).version;
    await owner.query({ name: "by_hand", text: "UPDATE policy_rules SET v6 = 'x' WHERE ptype = 'g'" });
    expect((await readPolicy(owner)).version).toBe(before + 1);
    await expect(owner.query({ name: "back", text: "UPDATE policy_version SET version = 1" })).rejects.toThrow("only counts upwards");
    await expect(owner.query({ name: "gone", text: "DELETE FROM policy_version" })).rejects.toThrow("only counts upwards");
    await owner.query({ name: "by_hand_undo", text: "UPDATE policy_rules SET v6 = ''" });
  });

  test("is refused to the service's own role (PCI DSS 7.2)", async () => {
    for (const text of [
      "INSERT INTO policy_rules (ptype, v0, v1) VALUES ('g', 'a', 'b')",
      "DELETE FROM policy_rules",
      "UPDATE policy_rules SET v6 = 'x'",
      "TRUNCATE policy_rules",
      "UPDATE policy_version SET version = version + 1",
    ]) {
      await expect(service.query({ name: text.slice(0, 40), text })).rejects.toThrow("permission denied");
    }
  });
});
