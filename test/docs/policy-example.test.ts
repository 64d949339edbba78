import { afterAll, beforeAll, expect, it } from "vitest";
import { applyPolicy, readPolicy } from "../../src/access/administration.js";
import { compileRules } from "../../src/access/model.js";
import { Database } from "../../src/store/database.js";
import { type FreshDatabase, freshDatabase } from "../support/database.js";
import { fencesOf, tableOf } from "../support/markdown.js";

let database: FreshDatabase;
let owner: Database;

beforeAll(async () => {
  database = await freshDatabase();
  owner = new Database({ ...database.service, url: database.ownerUrl, role: "cardex_owner" });
});

afterAll(async () => {
  await owner.close();
  await database.close();
});

it("the policy of docs/policy.md can be applied, and decides as its table says", async () => {
  const [example] = fencesOf("docs/policy.md").filter(({ note }) => note === "policy");
  await applyPolicy(owner, example?.text ?? "");
  const decide = await compileRules((await readPolicy(owner)).rows);
  const rows = tableOf("docs/policy.md", "principal");
  expect(rows.length).toBeGreaterThan(10);
  for (const row of rows) {
    const [who = "", object = "", action = "", purpose = "", decision] = row.map((cell) => cell.replaceAll("`", ""));
    const [tenant = "", name = ""] = who.split("/");
    const allowed = decide({ subject: `spiffe://example.org/tenant/${tenant}/${name}`, tenant, object, action, purpose });
    expect(allowed ? "allowed" : "denied", row.join(" ")).toBe(decision);
  }
});
