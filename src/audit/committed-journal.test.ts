import pg from "pg";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../test/support/database.js";
import { openProxy, type PostgresProxy } from "../../test/support/postgres-proxy.js";
import { testCall } from "../../test/support/vault.js";
import { Alerts } from "../alert.js";
import { openLog } from "../log.js";
import { Metrics } from "../metrics.js";
import { CommittedJournal } from "./committed-journal.js";
import { CommittedWriter } from "./committed-writer.js";
import { RefusalSums } from "./refusal-sums.js";

let fresh: FreshDatabase;
let proxy: PostgresProxy;
let admin: pg.Client;
let notices: CommittedWriter;
let sums: RefusalSums;
let journal: CommittedJournal;
let lost: unknown[];

beforeEach(async () => {
  fresh = await freshDatabase();
  proxy = await openProxy(fresh.service.url);
  admin = new pg.Client({ connectionString: fresh.adminUrl, options: "-c search_path=cardex" });
  await admin.connect();
  const observer = { headMoved: () => undefined, withheld: () => undefined, notDone: () => undefined, commitResolved: () => undefined, workFailed: () => undefined };
  notices = new CommittedWriter({ database: { ...fresh.service, url: proxy.url }, stream: "notice", queue_max: 100, batch_max: 100, observer });
  sums = new RefusalSums(notices, 10, (error) => lost.push(error));
  lost = [];
  journal = new CommittedJournal(notices, notices, sums, (error) => lost.push(error));
});

afterEach(async () => {
  proxy.up();
  await journal.close();
  await sums.close();
  await notices.close();
  await proxy.close();
  await admin.end();
  await fresh.close();
});

async function kinds(log: string): Promise<string[]> {
  return (await admin.query<{ kind: string }>("select line::jsonb->>'kind' as kind from audit_entries where log = $1 order by at, seq", [log])).rows.map((row) => row.kind);
}

describe("what nobody waits for", () => {
  it("is written when the store is back: an alert that was raised while it was away stands in the log", async () => {
    const alerts = new Alerts(journal, openLog("silent"), new Metrics());
    await journal.event("audit.start", {});
    proxy.down();
    alerts.raise("hsm.recovering", {});
    journal.withheld(testCall("TokenService/Detokenize"));
    await expect(journal.event("audit.stop", {})).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    expect(await kinds("system")).toEqual(["audit.start"]);
    proxy.up();
    await vi.waitFor(async () => expect(await kinds("system")).toEqual(["audit.start", "alert.hsm.recovering"]), { timeout: 10_000 });
    expect(await kinds("acme")).toEqual(["withheld"]);
    expect(lost).toEqual([]);
  });

  it("is written to the last at the end, also what came while a commit was under way", async () => {
    await admin.query("begin; lock table audit_heads in exclusive mode");
    journal.notice("first", {});
    await vi.waitFor(() => expect(notices.waiting).toBe(0));
    journal.notice("second", {});
    const closed = journal.close();
    await admin.query("rollback");
    await closed;
    expect(await kinds("system")).toEqual(["first", "second"]);
  });

  it("is told of as lost where the store is away to the end, and beyond the number that is kept", async () => {
    proxy.down();
    for (let i = 0; i < 10_001; i += 1) journal.notice("each", {});
    expect(lost).toMatchObject([{ message: "too many notices wait for the store" }]);
    await journal.close();
    expect(lost).toMatchObject([{}, { message: "10000 notices were not written before the end" }]);
  });
});

describe("sums of refusals", () => {
  const refusal = { log: "acme", what: "callsInFlight", address: "192.0.2.1" };
  const counted = async () =>
    (await admin.query<{ count: number }>("select (line::jsonb->>'count')::int as count from audit_entries where line::jsonb->>'kind' = 'refusals' order by at, seq")).rows.map((row) => row.count);

  it("are written to the last at the end, also what was counted while a flush was under way", async () => {
    await admin.query("begin; lock table audit_heads in exclusive mode");
    sums.add(refusal);
    void sums.flush();
    await vi.waitFor(() => expect(notices.waiting).toBe(0));
    sums.add(refusal, 2);
    const closed = sums.close();
    await admin.query("rollback");
    await closed;
    expect(await counted()).toEqual([1, 2]);
    expect(lost).toEqual([]);
  });

  it("are told of as lost where the store is away to the end", async () => {
    proxy.down();
    sums.add(refusal, 2);
    sums.add({ ...refusal, address: "192.0.2.2" });
    await sums.close();
    expect(lost).toMatchObject([{ message: "3 refusals were not written before the end" }]);
  });
});
