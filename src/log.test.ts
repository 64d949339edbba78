import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type FreshDatabase, freshDatabase } from "../test/support/database.js";
import { storeUnavailable } from "./failure.js";
import { describeError } from "./log.js";

const canary = "4111111111111111";
let fresh: FreshDatabase;
let client: pg.Client;

beforeAll(async () => {
  fresh = await freshDatabase();
  client = new pg.Client({ connectionString: fresh.adminUrl, options: "-c search_path=cardex" });
  await client.connect();
});

afterAll(async () => {
  await client.end();
  await fresh.close();
});

async function errorOf(text: string, values: unknown[] = []): Promise<unknown> {
  return await client.query(text, values).then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe("an error of PostgreSQL in the log", () => {
  it.each<[string, string, unknown[], object]>([
    ["a value of the wrong type", "select $1::uuid", [canary], { code: "22P02", routine: "string_to_uuid" }],
    ["a value that stands in a statement", `select '${canary}x'::bigint`, [], { code: "22P02", routine: expect.any(String) as string }],
    ["several lines", `select E'${canary}\n    at ${canary}'::uuid`, [], { code: "22P02" }],
    ["a duplicate key", "insert into tenants (tenant, institution) select $1, n::text from generate_series(1111, 1112) as n", ["a"], { code: "23505", table: "tenants", constraint: "tenants_pkey" }],
    ["a row that a check refuses", "insert into tenants (tenant, institution) values ('t', $1)", [canary.slice(0, 3)], { code: "23514", table: "tenants", constraint: "tenants_institution_check" }],
  ])("says which, and quotes nothing of what was sent: %s", async (_name, text, values, expected) => {
    const error = await errorOf(text, values);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    for (const described of [describeError(error), describeError(storeUnavailable(error))]) {
      expect(JSON.stringify(described)).not.toContain(canary.slice(0, 4));
      expect(JSON.stringify(described)).not.toMatch(/invalid input|violates/);
    }
    expect(describeError(error)).toMatchObject({ type: "DatabaseError", ...expected });
  });

  it("is its own message where it is another's: what a connection says names no value", () => {
    expect(describeError(storeUnavailable(new Error("Connection terminated")))).toMatchObject({ cause: { message: "Connection terminated", stack: expect.stringContaining("log.test") as string } });
  });
});
