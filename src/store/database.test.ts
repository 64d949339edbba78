import pg from "pg";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { freshDatabase, type FreshDatabase } from "../../test/support/database.js";
import { Database, type Queryable } from "./database.js";

const backend = { name: "test_backend", text: "select pg_backend_pid() as pid" };
const write = { name: "test_write", text: "create temporary table scratch on commit drop as select 1 as one" };

describe("the pool", () => {
  let fresh: FreshDatabase;
  let database: Database;
  let lost: string[];

  const admin = async (...statements: readonly string[]): Promise<void> => {
    const client = new pg.Client({ connectionString: fresh.adminUrl, options: "-c default_transaction_read_only=off" });
    await client.connect();
    for (const statement of statements) await client.query(statement);
    await client.end();
  };
  const pidOf = async (on: Queryable): Promise<number> => (await on.query<{ pid: number }>(backend))[0]?.pid ?? 0;
  const readOnly = (setting: "on" | "off") => admin(`alter database ${fresh.name} set default_transaction_read_only = ${setting}`);

  beforeEach(async () => {
    fresh = await freshDatabase();
    lost = [];
    database = new Database({ ...fresh.service, pool: 1 }, (error) => lost.push(error.message));
  });

  afterEach(async () => {
    await database.close();
    await fresh.close();
  });

  it("outlives a connection that is lost in the middle of a transaction, while nothing is asked of it", async () => {
    const transaction = database.transaction(async (tx) => {
      await admin(`select pg_terminate_backend(${await pidOf(tx)})`);
      await vi.waitUntil(() => lost.length > 0);
      await tx.query(backend);
    });
    await expect(transaction).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    expect(lost[0]).toMatch(/terminat/);
    expect(await database.transaction(pidOf)).toBeGreaterThan(0);
  });

  it("takes a PostgreSQL that is read only for one that is away, and drops the connection to it", async () => {
    await readOnly("on");
    await expect(database.transaction((tx) => tx.query(write))).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    await readOnly("off");
    expect(await database.transaction((tx) => tx.query(write))).toEqual([]);
  });

  it("tells one that takes writes from one that answers lookups only, as a standby does, and drops the connection to that one", async () => {
    await database.requireWritable();
    const before = await pidOf(database);
    await admin(`select pg_terminate_backend(${before})`);
    await vi.waitUntil(() => lost.length > 0);
    await readOnly("on");
    expect(await pidOf(database)).not.toBe(before);
    await expect(database.requireWritable()).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    await readOnly("off");
    await database.requireWritable();
  });
});
