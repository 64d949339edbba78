import pg from "pg";
import { afterEach, expect, test } from "vitest";
import { freshDatabase, type FreshDatabase } from "../../test/support/database.js";
import { databaseRoles, migrate, pendingMigrations } from "./migrate.js";

let database: FreshDatabase | undefined;

afterEach(async () => {
  await database?.close();
  database = undefined;
});

async function rows(url: string, statement: string): Promise<unknown[][]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query({ text: statement, rowMode: "array" })).rows;
  } finally {
    await client.end();
  }
}

test("a new database has every migration pending, a migrated one none, and migrating again does nothing", async () => {
  database = await freshDatabase({ migrated: false });
  const before = await pendingMigrations(database.ownerUrl);
  expect(before[0]).toBe("0001 schema");
  expect((await migrate(database.ownerUrl)).applied).toEqual(before);
  expect(await pendingMigrations(database.service.url)).toEqual([]);
  expect((await migrate(database.ownerUrl)).applied).toEqual([]);
});

test("of processes that migrate at the same time one does the work and all succeed", async () => {
  database = await freshDatabase({ migrated: false });
  const { ownerUrl } = database;
  const results = await Promise.all([1, 2, 3].map(() => migrate(ownerUrl)));
  expect(results.filter((result) => result.applied.length > 0)).toHaveLength(1);
});

test("everything in the schema belongs to the owner role, which can't log in", async () => {
  database = await freshDatabase();
  const owners = await rows(database.adminUrl, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'cardex'");
  expect(owners).toEqual([["cardex_owner"]]);
  const logins = await rows(database.adminUrl, `SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname IN ('${databaseRoles.join("','")}')`);
  expect(logins).toEqual([]);
});

test("the service role can't make anything in the schema", async () => {
  database = await freshDatabase();
  await expect(rows(database.service.url, "CREATE TABLE cardex.mine (a int)")).rejects.toThrow(/permission denied/);
});

test("a login that may not make roles is told so in one line", async () => {
  database = await freshDatabase({ migrated: false });
  await expect(migrate(database.service.url)).rejects.toThrow(/GRANT cardex_owner TO it/);
});
