import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Failure } from "../../src/failure.js";
import { openProxy, type PostgresProxy } from "../support/postgres-proxy.js";
import { openGround, openRooms, testCall, tokenizeRequest, type VaultGround, type VaultRooms, verifiedEntries } from "../support/vault.js";

let ground: VaultGround;
let proxy: PostgresProxy;
let rooms: VaultRooms;

beforeAll(async () => {
  ground = await openGround();
});
afterAll(() => ground.close());

beforeEach(async () => {
  proxy = await openProxy(ground.fresh.service.url);
  rooms = await openRooms({ ...ground, fresh: { ...ground.fresh, service: { ...ground.fresh.service, url: proxy.url, statement_ms: 1500 } } });
});
afterEach(async () => {
  proxy.up();
  await rooms.close();
  await proxy.close();
});

async function tokenize(requestId = randomUUID()): Promise<string> {
  const [answer] = await rooms.tokenizer.tokenize(testCall("TokenService/Tokenize"), [tokenizeRequest({ requestId })]);
  if (answer?.ok !== true) throw answer?.error;
  return answer.value.token;
}

async function detokenize(token: string): Promise<string> {
  const [answer] = await rooms.detokenizer.detokenize(testCall("TokenService/Detokenize"), "PAYMENT", [{ token, requestId: undefined }]);
  if (answer?.ok !== true) throw answer?.error;
  return answer.value.secret.pan.openDigits();
}

const tokensMade = async (): Promise<number> => Number((await ground.admin<{ count: string }>("select count(*) from tokens"))[0]?.count);

describe("a commit whose answer is lost", () => {
  for (const fault of ["lost-before", "lost-after", "silent-after"] as const) {
    it(`(${fault}) is resolved: 20 tokenizations in flight are each done once, and the chain goes on`, async () => {
      await tokenize();
      const before = await tokensMade();
      proxy.arm(fault);
      const tokens = await Promise.all(Array.from({ length: 20 }, () => tokenize()));
      expect(proxy.broken).toBe(1);
      expect(await tokensMade()).toBe(before + 20);
      await Promise.all(tokens.map(detokenize));
      await tokenize();
      expect(rooms.alerts).toEqual([`commitResolved ${String(fault !== "lost-before")}`]);
      await verifiedEntries(ground);
    });

    it(`(${fault}) is resolved also when the new backend is ended in the middle of resolving it`, async () => {
      const token = await tokenize();
      await detokenize(token);
      proxy.arm(fault);
      const reveal = detokenize(token);
      reveal.catch(() => undefined);
      const end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'cardex writer%' and datname = current_database()";
      for (let i = 0; i < 40; i++) {
        await ground.admin(end);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await Promise.allSettled([reveal]);
      expect(rooms.alerts).not.toContain("headMoved");
      await detokenize(token);
      await verifiedEntries(ground);
    });

    it(`(${fault}) of a reveal releases the PAN with exactly one entry`, async () => {
      const token = await tokenize();
      await detokenize(token);
      proxy.arm(fault);
      await detokenize(token);
      const entries = (await verifiedEntries(ground)).filter((entry) => entry["rpc"] === "cardex.v1.TokenService/Detokenize" && JSON.stringify(entry).includes(token));
      expect(entries.map((entry) => entry["outcome"])).toEqual(["released", "released"]);
    });
  }
});

describe("a commit that stays in doubt for longer than a statement may take", () => {
  it("is told UNAVAILABLE, marked as unsettled so that nobody writes a second entry, and corrected once it is known", async () => {
    const token = await tokenize();
    for (const fault of ["lost-after", "lost-before"] as const) {
      await detokenize(token);
      rooms.alerts.length = 0;
      proxy.arm(fault);
      const call = testCall("TokenService/Detokenize");
      const reveal = rooms.detokenizer.detokenize(call, "PAYMENT", [{ token, requestId: undefined }]);
      reveal.catch(() => undefined);
      while (proxy.broken === (fault === "lost-after" ? 0 : 1)) await new Promise(setImmediate);
      proxy.down();
      await expect(reveal).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
      expect(call).toMatchObject({ unsettled: true, audited: false });
      proxy.up();
      while (rooms.alerts.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
      await detokenize(token);
      expect(rooms.alerts).toContain(fault === "lost-after" ? "withheld cardex.v1.TokenService/Detokenize" : "not done cardex.v1.TokenService/Detokenize");
      const entries = (await verifiedEntries(ground)).filter((entry) => entry["call"] === call.id);
      expect(entries.map((entry) => entry["outcome"])).toEqual(fault === "lost-after" ? ["released"] : []);
    }
  });
});

describe("a database that is away", () => {
  it("in the middle of a Detokenize: UNAVAILABLE and no PAN, at once for whoever waits; back, the next call works", async () => {
    const token = await tokenize();
    await detokenize(token);
    proxy.down();
    for (const result of await Promise.allSettled(Array.from({ length: 10 }, () => detokenize(token)))) {
      expect(result).toMatchObject({ status: "rejected", reason: expect.objectContaining({ reason: "STORE_UNAVAILABLE" }) as Failure });
    }
    proxy.up();
    await detokenize(token);
    await verifiedEntries(ground);
  });

  it("when the writer's backend is terminated, replaces the connection without an error to the caller", async () => {
    const token = await tokenize();
    await ground.admin("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'cardex writer%' and datname = current_database()");
    await tokenize();
    await detokenize(token);
    await verifiedEntries(ground);
  });
});

describe("the shared transaction", () => {
  it("takes a job out of the batch that poisons it; the others are committed", async () => {
    const token = await tokenize();
    const bad = { name: "a poison", run: () => Promise.reject(new Error("poison")) };
    const outcomes = await Promise.allSettled([
      ...Array.from({ length: 7 }, () => detokenize(token)),
      rooms.reveals.submit(bad, testCall("TokenService/Detokenize"), undefined),
      ...Array.from({ length: 8 }, () => detokenize(token)),
    ]);
    expect(outcomes.map((outcome) => outcome.status).filter((status) => status === "rejected")).toHaveLength(1);
    expect(outcomes[7]).toMatchObject({ status: "rejected" });
    await verifiedEntries(ground);
  });

  it("decides again when the policy moved, and releases nothing under the old one", async () => {
    const token = await tokenize();
    await ground.admin("insert into policy_rules (ptype, v0, v1) values ('g', $1, 'x')", [`someone ${randomUUID()}`]);
    const call = testCall("TokenService/Detokenize", { decideAgain: () => Promise.reject(new Failure("DENIED", "no")) });
    await expect(rooms.detokenizer.detokenize(call, "PAYMENT", [{ token, requestId: undefined }])).rejects.toMatchObject({ reason: "DENIED" });
    expect(call.audited).toBe(false);
    expect((await rooms.detokenizer.detokenize(testCall("TokenService/Detokenize"), "PAYMENT", [{ token, requestId: undefined }]))[0]).toMatchObject({ ok: true });
    await ground.admin("delete from policy_rules where v0 like 'someone%'");
  });

  it("drops a caller that has gone while it waited, and does nothing for it", async () => {
    const gone = AbortSignal.abort();
    const before = await tokensMade();
    const call = testCall("TokenService/Tokenize", { signal: gone });
    await expect(rooms.tokenizer.tokenize(call, [tokenizeRequest()])).rejects.toMatchObject({ reason: "DEADLINE" });
    expect(await tokensMade()).toBe(before);
  });

  it("refuses at once what its queue can't take", async () => {
    const small = await openRooms(ground, { ...(await import("../support/vault.js")).defaultLimits, writerQueue: 4 });
    const calls = Array.from({ length: 64 }, () => small.reveals.append(testCall("CardService/GetCard", { policyVersion: 0 }), [], false));
    const results = await Promise.allSettled(calls);
    const refused = results.filter((result) => result.status === "rejected");
    expect(refused.length).toBe(60);
    expect(refused[0]).toMatchObject({ reason: { reason: "LIMIT", limit: "writerQueue" } });
    await small.close();
  });
});

describe("PCI DSS 10.3.2: the audit tables", () => {
  it("refuse UPDATE, DELETE and TRUNCATE to every role, the owner and a superuser included", async () => {
    await tokenize();
    const partitions = await ground.admin<{ name: string }>("select distinct tableoid::regclass::text as name from audit_entries");
    expect(partitions.length).toBeGreaterThan(0);
    for (const table of ["audit_entries", "audit_heads", ...partitions.map((row) => row.name)]) {
      for (const role of ["cardex_owner", "cardex_service", "cardex_auditor", "none"]) {
        const change = table === "audit_heads" ? "seq = seq - 1" : "line = ''";
        for (const sql of [`update ${table} set ${change}`, `delete from ${table}`, `truncate ${table}`]) {
          await expect(ground.admin(`do $$ begin set local role ${role}; ${sql}; end $$`), `${role}: ${sql}`).rejects.toMatchObject({ code: "42501" });
        }
      }
    }
    await expect(ground.admin("do $$ begin set local session_replication_role = replica; delete from audit_entries; end $$")).rejects.toMatchObject({ code: "42501" });
  });
});
