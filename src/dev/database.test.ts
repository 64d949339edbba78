import { expect, test } from "vitest";
import { requireDatabase } from "./database.js";

test("a PostgreSQL of the user's that can't be reached is named by the variable, and its password is not told", async () => {
  const error: unknown = await requireDatabase("postgres://admin:not-told@127.0.0.1:1/cardex", "CARDEX_DATABASE_URL").catch((reason: unknown) => reason);
  expect(error).toMatchObject({ name: "Obstacle", message: expect.stringMatching(/^CARDEX_DATABASE_URL names a PostgreSQL that can't be used \(connect ECONNREFUSED/) as string });
  expect(String(error)).not.toContain("not-told");
});
