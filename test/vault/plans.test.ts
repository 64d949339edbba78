import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { CommittedWriter } from "../../src/audit/committed-writer.js";
import type { WorkKind } from "../../src/audit/work.js";
import { cardStatus } from "../../src/cards/card-status.js";
import type { Queryable } from "../../src/store/database.js";
import { tokenFormats } from "../../src/vault/token-format.js";
import { openGround, openRooms, testCall, tokenizeRequest, type VaultGround, type VaultRooms } from "../support/vault.js";

let ground: VaultGround;
let rooms: VaultRooms;

beforeAll(async () => {
  ground = await openGround();
  const { fresh } = ground;
  // One connection, so that it has prepared every look-up.
  rooms = await openRooms({ ...ground, fresh: { ...fresh, service: { ...fresh.service, pool: 1 } } });
});
afterAll(async () => {
  await rooms.close();
  await ground.close();
});

/** The plans, as kept with prepared statements, of everything that this connection has prepared. */
async function plansOf(db: Queryable): Promise<Map<string, string>> {
  const statements = await db.query<{ name: string; statement: string }>({ name: "plans", text: "select name, statement from pg_prepared_statements where name <> 'plans'" });
  const plans = new Map<string, string>();
  for (const { name, statement } of statements) {
    const rows = await db.query<{ "QUERY PLAN": string }>({ name: "", text: `explain (generic_plan) ${statement}` });
    plans.set(name, rows.map((row) => row["QUERY PLAN"]).join("\n"));
  }
  return plans;
}

function plansOfWriter(writer: CommittedWriter): Promise<Map<string, string>> {
  const kind: WorkKind<undefined, Map<string, string>> = {
    name: "explain",
    run: async (tx, jobs) => {
      const value = await plansOf(tx);
      return jobs.map(() => ({ kind: "done", value, outcome: "done" }));
    },
  };
  return writer.submit(kind, testCall("CardService/GetCard"), undefined);
}

it("no statement in the way of a request reads a table or a tenant whole, not even while it is nearly empty and has no statistics", async () => {
  const request = tokenizeRequest({ name: "A NAME", requestId: randomUUID(), uses_max: 2 });
  const [answer] = await rooms.tokenizer.tokenize(testCall("TokenService/Tokenize"), [request]);
  if (answer?.ok !== true) throw answer?.error;
  const { token, indexCode } = answer.value;
  await rooms.tokenizer.tokenize(testCall("TokenService/Tokenize"), [request]);
  await rooms.tokenizer.tokenize(testCall("TokenService/Tokenize"), [{ ...request, requestId: undefined, expiry: { year: 2091, month: 1 }, uses_max: 0, reused: true, format: tokenFormats.numeric }]);
  await rooms.detokenizer.detokenize(testCall("TokenService/Detokenize"), "PAYMENT", [{ token, requestId: randomUUID() }]);
  await rooms.cards.getCards(testCall("CardService/BatchGetCards"), [{ indexCode }, { token }]);
  await rooms.records.describe(testCall("TokenService/GetToken"), token);
  await rooms.records.list({ tenant: "acme", cardId: answer.value.cardId }, "", 10, "");
  await rooms.cards.setStatus(testCall("CardService/SetCardStatus"), { key: { indexCode }, requestId: randomUUID(), status: cardStatus.frozen, comment: "", expectedVersion: 0 });
  await rooms.cards.rotateIndexCode(testCall("CardService/RotateIndexCode"), { key: { indexCode }, requestId: randomUUID(), grace_s: 1 });
  await rooms.records.revoke(testCall("TokenService/RevokeToken"), token, randomUUID());
  const plans = new Map([...(await plansOf(rooms.database)), ...(await plansOfWriter(rooms.mutations)), ...(await plansOfWriter(rooms.reveals))]);
  expect(plans.size).toBeGreaterThan(25);
  const whole = [...plans].filter(([, plan]) => /Seq Scan on (?!policy_version|keys|tenants)/.test(plan));
  expect(whole).toEqual([]);
  // Nor a whole tenant, by the first column of a key alone.
  const byPart = [...plans].filter(([, plan]) => /Bitmap|Index (Only )?Scan (Backward )?using \S+ on (?!keys|tenants).*\n(?! *Index Cond: \(\()/.test(plan));
  expect(byPart).toEqual([]);
});
