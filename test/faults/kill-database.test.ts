import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CardexError, Purpose } from "../../src/client/index.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Admin, until } from "../support/admin.js";
import { OwnCluster } from "../support/cluster.js";
import { freshDatabase } from "../support/database.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { Load, loadClients, once } from "../support/load.js";
import { expectTruth } from "../support/load-truth.js";
import { readiness } from "../support/probe.js";

let own: OwnCluster;
let vault: TestInstallation;
let admin: Admin;

beforeAll(async () => {
  own = await OwnCluster.start();
  vault = await startInstallation({ servers: 2, database: await freshDatabase({ migrated: false, cluster: own.cluster }) });
  admin = new Admin(vault.database.adminUrl);
});

afterAll(async () => {
  await admin?.close();
  await vault?.stop();
  await own?.close();
});

/** What makes a COMMIT last, so that it can be met in the middle: before its record is on disk, or after, before it is answered. */
const middles = {
  "before it is durable": { slow: "alter system set commit_delay = 100000", reset: "alter system reset commit_delay", seen: "state = 'active'" },
  "after it is durable": { slow: "alter system set synchronous_standby_names = 'nobody'", reset: "alter system reset synchronous_standby_names", seen: "wait_event = 'SyncRep'" },
} as const;

/** The backend of a writer that is in the middle of COMMIT. */
async function committing(seen: string): Promise<number> {
  for (;;) {
    const [found] = await admin.admin<{ pid: number }>(`select pid from pg_stat_activity where application_name like 'cardex writer%' and query = 'COMMIT' and ${seen} limit 1`);
    if (found !== undefined) return found.pid;
    await sleep(1);
  }
}

async function setting(sql: string): Promise<void> {
  await until(async () => {
    await admin.admin(sql);
    await admin.admin("select pg_reload_conf()");
    return true;
  });
}

describe("a writer's backend that ends in the middle of COMMIT under load", () => {
  test("by pg_terminate_backend or by kill -9, before or after the commit is durable: nothing acknowledged is lost, nothing done twice", async () => {
    await setting("alter system set commit_siblings = 0");
    const load = new Load();
    load.start(24, await loadClients(vault, 2));
    for (const { slow, reset, seen } of [middles["before it is durable"], middles["after it is durable"]]) {
      for (const end of ["terminate", "kill -9"]) {
        await load.more(80);
        await setting(slow);
        const pid = await committing(seen);
        if (end === "terminate") await admin.admin("select pg_terminate_backend($1)", [pid]);
        else process.kill(pid, "SIGKILL");
        await setting(reset);
      }
    }
    await load.more(80);
    await load.stop();
    await expectTruth(load, await loadClients(vault, 1), admin);
  });
});

describe("a database that is away", () => {
  test("means UNAVAILABLE with RetryInfo, no PAN and not ready; when it is back, the same servers work", async () => {
    const gateway = await vault.client("payment-gateway", { retries: once });
    const { pan } = testCard(5000);
    const { token } = await gateway.tokens.tokenize({ pan, expiry: { year: 2090, month: 1 } });
    const pids = vault.servers.map((server) => server.process.pid);
    await own.halt();
    for (const call of [() => gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT }), () => gateway.tokens.tokenize({ pan, expiry: { year: 2090, month: 1 } }), () => gateway.tokens.getToken({ token })]) {
      const refusal = await call().catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(CardexError);
      expect(refusal).toMatchObject({ codeName: "UNAVAILABLE", reason: "STORE_UNAVAILABLE", retryAfter_ms: expect.any(Number) as number });
      expect((refusal as CardexError).message).not.toContain(pan);
    }
    for (const server of vault.servers) expect(await readiness(server)).toMatchObject({ status: 503, checks: { database: { ok: false } } });
    await own.resume();
    for (const server of vault.servers) await until(async () => (await readiness(server)).status === 200);
    expect((await gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT })).pan).toBe(pan);
    expect(vault.servers.map((server) => server.process.pid)).toEqual(pids);
  });
});
