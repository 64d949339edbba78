import fc from "fast-check";
import pg from "pg";
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { passesLuhn, luhnCheckDigit } from "../../src/cards/luhn.js";
import { Pan } from "../../src/cards/pan.js";
import { cardStatus } from "../../src/cards/card-status.js";
import { Failure } from "../../src/failure.js";
import { tokenFormats } from "../../src/vault/token-format.js";
import type { TokenizeAnswer, TokenizeRequest } from "../../src/vault/tokenize-request.js";
import type { Settled } from "../../src/batcher.js";
import {
  openGround,
  openRooms,
  otherTenant,
  randomPan,
  testCall,
  tokenizeRequest,
  type VaultGround,
  type VaultRooms,
  verifiedEntries,
} from "../support/vault.js";

let ground: VaultGround;
let rooms: VaultRooms;
let secondServer: VaultRooms;

beforeAll(async () => {
  ground = await openGround();
  rooms = await openRooms(ground);
  secondServer = await openRooms(ground);
});

afterAll(async () => {
  await rooms.close();
  await secondServer.close();
  await ground.close();
});

async function tokenize(request: TokenizeRequest, server = rooms, of?: string): Promise<TokenizeAnswer> {
  const call = testCall("TokenService/Tokenize", of === undefined ? {} : { tenant: of });
  return open((await server.tokenizer.tokenize(call, [request]))[0]);
}

async function detokenize(token: string, options: { purpose?: string; requestId?: string; tenant?: string; scopes?: boolean } = {}, server = rooms): Promise<string> {
  const call = testCall("TokenService/Detokenize", {
    ...(options.tenant === undefined ? {} : { tenant: options.tenant }),
    ...(options.scopes === undefined ? {} : { mayUseScope: () => options.scopes === true }),
  });
  const [answer] = await server.detokenizer.detokenize(call, options.purpose ?? "PAYMENT", [{ token, requestId: options.requestId }]);
  expect(call.audited).toBe(true);
  return open(answer).secret.pan.openDigits();
}

function open<T>(answer: Settled<T> | undefined): T {
  if (answer?.ok === true) return answer.value;
  throw answer?.error;
}

async function failureOf(work: Promise<unknown>): Promise<Failure> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

describe("tokenize and detokenize", () => {
  it("give back every PAN of every length and brand, with its name and expiry", async () => {
    const pans = fc.tuple(fc.constantFrom("4", "51", "2221", "34", "37", "6011", "36", "3528", "62", "508500", "9792", "2200", "1", "0", "7"), fc.integer({ min: 8, max: 19 }));
    await fc.assert(
      fc.asyncProperty(pans, fc.string({ maxLength: 40, unit: "grapheme" }), fc.integer({ min: 2027, max: 2099 }), fc.integer({ min: 1, max: 12 }), async ([prefix, length], name, year, month) => {
        const pan = randomPan(length, prefix);
        const clean = name.replace(/[\p{Cc}0-9]/gu, "");
        const { token } = await tokenize(tokenizeRequest({ pan, name: clean, expiry: { year, month } }));
        const call = testCall("TokenService/Detokenize");
        const revealed = open((await rooms.detokenizer.detokenize(call, "PAYMENT", [{ token, requestId: undefined }]))[0]);
        expect(revealed.secret.pan.openDigits()).toBe(pan.openDigits());
        expect(revealed.secret.name).toBe(clean);
        expect(revealed.expiry).toEqual({ year, month });
      }),
      { numRuns: 60 },
    );
  });

  it("make one card of one PAN: the second answer says known and gives the same index code", async () => {
    const pan = randomPan();
    const first = await tokenize(tokenizeRequest({ pan }));
    const second = await tokenize(tokenizeRequest({ pan }));
    expect(first.cardKnown).toBe(false);
    expect(second).toMatchObject({ cardKnown: true, indexCode: first.indexCode, cardId: first.cardId });
    expect(second.token).not.toBe(first.token);
  });

  it("make one card of the same PAN from 64 callers on two servers at the same instant", async () => {
    const pan = randomPan();
    const answers = await Promise.all(Array.from({ length: 64 }, (_, i) => tokenize(tokenizeRequest({ pan, name: i % 3 === 0 ? `NAME ${"ABCDEFGHIJ".charAt(i % 10)}` : "" }), i % 2 === 0 ? rooms : secondServer)));
    expect(new Set(answers.map((answer) => answer.cardId)).size).toBe(1);
    expect(new Set(answers.map((answer) => answer.indexCode)).size).toBe(1);
    expect(new Set(answers.map((answer) => answer.token)).size).toBe(64);
    expect(answers.filter((answer) => !answer.cardKnown)).toHaveLength(1);
    expect(await detokenize(answers[63]?.token ?? "")).toBe(pan.openDigits());
  });

  it("keep tenants apart: the same PAN is another card, and a token is unknown to the other tenant", async () => {
    const pan = randomPan();
    const ours = await tokenize(tokenizeRequest({ pan }));
    const theirs = await tokenize(tokenizeRequest({ pan }), rooms, otherTenant);
    expect(theirs.cardKnown).toBe(false);
    expect(theirs.cardId).not.toBe(ours.cardId);
    expect(await failureOf(detokenize(ours.token, { tenant: otherTenant }))).toMatchObject({ reason: "NOT_FOUND", inner: "unknown" });
  });

  it("refuse a ciphertext that was moved to another card's row, and alert", async () => {
    const [a, b] = [await tokenize(tokenizeRequest()), await tokenize(tokenizeRequest())];
    await ground.admin("update cards set sealed = (select sealed from cards where card_id = $1) where card_id = $2", [a.cardId, b.cardId]);
    expect(await failureOf(detokenize(b.token))).toMatchObject({ reason: "INTEGRITY" });
    expect(rooms.alerts).toContain("integrity");
  });

  it("answer each item of a batch in its place, one bad item failing alone", async () => {
    const pans = [randomPan(), randomPan(), randomPan()];
    const call = testCall("TokenService/BatchTokenize");
    const bad = new Failure("INVALID_FIELD", "pan: wrong");
    const answers = await rooms.tokenizer.tokenize(call, [tokenizeRequest({ pan: pans[0] as Pan }), bad, tokenizeRequest({ pan: pans[1] as Pan }), tokenizeRequest({ pan: pans[0] as Pan })]);
    expect(answers.map((answer) => answer.ok)).toEqual([true, false, true, true]);
    expect(open(answers[3])).toMatchObject({ cardKnown: true, cardId: open(answers[0]).cardId });
    const reveal = testCall("TokenService/BatchDetokenize");
    const tokens = [open(answers[2]).token, "tok_unknownunknownunknownunknownun23", open(answers[0]).token];
    const revealed = await rooms.detokenizer.detokenize(reveal, "PAYMENT", tokens.map((token) => ({ token, requestId: undefined })));
    expect(revealed.map((each) => (each.ok ? each.value.secret.pan.openDigits() : "failed"))).toEqual([pans[1]?.openDigits(), "failed", pans[0]?.openDigits()]);
  });

  it("let the later expiry win, and tell of it in a card event", async () => {
    const pan = randomPan();
    const { cardId, token } = await tokenize(tokenizeRequest({ pan, expiry: { year: 2040, month: 5 } }));
    await tokenize(tokenizeRequest({ pan, expiry: { year: 2039, month: 12 } }));
    const later = await tokenize(tokenizeRequest({ pan, expiry: { year: 2040, month: 6 } }));
    expect(later.masked.expiry).toEqual({ year: 2040, month: 6 });
    const events = await ground.admin<{ kind: string }>("select kind from card_events where card_id = $1 order by event_id", [cardId]);
    expect(events.map((event) => event.kind)).toEqual(["created", "expiry"]);
    expect(await detokenize(token)).toBe(pan.openDigits());
  });
});

describe("tokens", () => {
  it("are numeric on request: as long as the PAN, beginning with 99, never passing Luhn, last four only when asked", async () => {
    for (const length of [11, 15, 16, 19]) {
      const pan = randomPan(length);
      const { token } = await tokenize(tokenizeRequest({ pan, format: tokenFormats.numeric }));
      expect(token).toMatch(new RegExp(`^99[0-9]{${length - 2}}$`));
      expect(passesLuhn(token)).toBe(false);
      expect(await detokenize(token)).toBe(pan.openDigits());
    }
    const pan = randomPan(16);
    const kept = await tokenize(tokenizeRequest({ pan, format: tokenFormats.numeric, keepLastFour: true }));
    expect(kept.token.endsWith(pan.openDigits().slice(-4))).toBe(true);
  });

  it("are the same for the same card and scope when reuse is asked, also at the same instant, until revoked", async () => {
    const pan = randomPan();
    const request = tokenizeRequest({ pan, reused: true, scope: "shop-1" });
    const answers = await Promise.all(Array.from({ length: 16 }, (_, i) => tokenize(request, i % 2 === 0 ? rooms : secondServer)));
    expect(new Set(answers.map((answer) => answer.token)).size).toBe(1);
    expect((await tokenize({ ...request, scope: "shop-2" })).token).not.toBe(answers[0]?.token);
    await rooms.records.revoke(testCall("TokenService/RevokeToken"), answers[0]?.token ?? "", undefined);
    expect((await tokenize(request)).token).not.toBe(answers[0]?.token);
    expect(await failureOf(detokenize(answers[0]?.token ?? ""))).toMatchObject({ reason: "NOT_FOUND", inner: "revoked" });
  });

  it("of limited use are spent exactly that often, from two servers at once", async () => {
    const { token } = await tokenize(tokenizeRequest({ uses_max: 5 }));
    const results = await Promise.allSettled(Array.from({ length: 12 }, (_, i) => detokenize(token, {}, i % 2 === 0 ? rooms : secondServer)));
    expect(results.filter((result) => result.status === "fulfilled")).toHaveLength(5);
    expect(await failureOf(detokenize(token))).toMatchObject({ reason: "NOT_FOUND", inner: "used up" });
  });

  it("of limited use that occur k times in a batch need k uses", async () => {
    const { token } = await tokenize(tokenizeRequest({ uses_max: 2 }));
    const call = testCall("TokenService/BatchDetokenize");
    const answers = await rooms.detokenizer.detokenize(call, "PAYMENT", [1, 2, 3].map(() => ({ token, requestId: undefined })));
    expect(answers.map((answer) => answer.ok)).toEqual([true, true, false]);
  });

  it("expire by PostgreSQL's clock", async () => {
    const { token, expiresAt_ms } = await tokenize(tokenizeRequest({ ttl_s: 3600 }));
    expect(expiresAt_ms).not.toBeNull();
    await ground.admin("update tokens set expires_at = clock_timestamp() - interval '1 millisecond' where token = $1", [token]);
    expect(await failureOf(detokenize(token))).toMatchObject({ reason: "NOT_FOUND", inner: "expired" });
  });

  it("of a scope that policy does not give the caller are not found", async () => {
    const { token } = await tokenize(tokenizeRequest({ scope: "shop-9" }));
    expect(await failureOf(detokenize(token, { scopes: false }))).toMatchObject({ reason: "NOT_FOUND", inner: "scope", message: "no such token or index code" });
  });
});

describe("request_id", () => {
  it("gives the same answer again, and makes nothing twice, also from 16 callers on two servers at once", async () => {
    const request = tokenizeRequest({ requestId: randomUUID() });
    const answers = await Promise.all(Array.from({ length: 16 }, (_, i) => tokenize(request, i % 2 === 0 ? rooms : secondServer)));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(await ground.admin("select 1 from tokens where card_id = $1", [answers[0]?.cardId])).toHaveLength(1);
  });

  it("is refused with any other request", async () => {
    const request = tokenizeRequest({ requestId: randomUUID() });
    await tokenize(request);
    for (const changed of [{ pan: randomPan() }, { name: "B" }, { scope: "s" }, { uses_max: 1 }, { expiry: { year: 2050, month: 1 } }]) {
      expect(await failureOf(tokenize({ ...request, ...changed }))).toMatchObject({ reason: "REQUEST_ID_REUSED" });
    }
  });

  it("of a failed request is free again", async () => {
    const pan = randomPan();
    const { indexCode } = await tokenize(tokenizeRequest({ pan }));
    const set = (status: 1 | 3) =>
      rooms.cards.setStatus(testCall("CardService/SetCardStatus"), { key: { indexCode }, requestId: undefined, status, comment: "", expectedVersion: 0 });
    await set(cardStatus.lost);
    const request = tokenizeRequest({ pan, requestId: randomUUID() });
    expect(await failureOf(tokenize(request))).toMatchObject({ reason: "CARD_STATUS" });
    await set(cardStatus.active);
    expect((await tokenize(request)).cardKnown).toBe(true);
  });

  it("of a Detokenize lets a repeat decrypt again without spending a use", async () => {
    const pan = randomPan();
    const { token } = await tokenize(tokenizeRequest({ pan, uses_max: 1 }));
    const requestId = randomUUID();
    expect(await detokenize(token, { requestId })).toBe(pan.openDigits());
    expect(await detokenize(token, { requestId })).toBe(pan.openDigits());
    expect(await failureOf(detokenize(token, { requestId: randomUUID() }))).toMatchObject({ inner: "used up" });
    expect(await failureOf(detokenize(token, { requestId, purpose: "REFUND" }))).toMatchObject({ reason: "REQUEST_ID_REUSED" });
  });

  it("of a Detokenize that has no use left releases nothing, however often it stands in a batch or arrives at once", async () => {
    const { token } = await tokenize(tokenizeRequest({ uses_max: 1 }));
    await detokenize(token);
    const requestId = randomUUID();
    const call = testCall("TokenService/BatchDetokenize");
    const answers = await rooms.detokenizer.detokenize(call, "PAYMENT", [1, 2, 3].map(() => ({ token, requestId })));
    expect(answers.map((answer) => answer.ok)).toEqual([false, false, false]);
    expect(call.resources.map(({ outcome }) => outcome)).toEqual(["failed", "failed", "failed"]);
    const atOnce = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => detokenize(token, { requestId: randomUUID() }, i % 2 === 0 ? rooms : secondServer)));
    expect(atOnce.every((result) => result.status === "rejected")).toBe(true);
    const together = await Promise.allSettled(Array.from({ length: 8 }, () => detokenize(token, { requestId })));
    expect(together.every((result) => result.status === "rejected")).toBe(true);
  });

  it("that was used with another request fails every item that carries it", async () => {
    const [a, b] = [await tokenize(tokenizeRequest()), await tokenize(tokenizeRequest({ uses_max: 1 }))];
    const requestId = randomUUID();
    await detokenize(a.token, { requestId });
    const call = testCall("TokenService/Detokenize");
    const twice = await Promise.allSettled([1, 2].map(() => detokenize(b.token, { requestId })));
    expect(twice.map((result) => (result.status === "rejected" ? (result.reason as Failure).reason : "released"))).toEqual(["REQUEST_ID_REUSED", "REQUEST_ID_REUSED"]);
    expect(call.audited).toBe(false);
    await rooms.records.revoke(testCall("TokenService/RevokeToken"), a.token, requestId);
    const revokes = await Promise.allSettled([1, 2].map(() => rooms.records.revoke(testCall("TokenService/RevokeToken"), b.token, requestId)));
    expect(revokes.every((result) => result.status === "rejected")).toBe(true);
    await detokenize(b.token);
  });

  it("is forgotten after its time: the same id may carry another request then", async () => {
    const requestId = randomUUID();
    await tokenize(tokenizeRequest({ requestId }));
    await ground.admin("update requests set at = at - interval '24 hours' where request_id = $1", [requestId]);
    expect((await tokenize(tokenizeRequest({ requestId }))).cardKnown).toBe(false);
  });
});

describe("card status", () => {
  it("stops detokenizing at once on every server, but for refund and chargeback", async () => {
    for (const status of [cardStatus.lost, cardStatus.stolen, cardStatus.closed] as const) {
      const pan = randomPan();
      const { token, indexCode } = await tokenize(tokenizeRequest({ pan }));
      await rooms.cards.setStatus(testCall("CardService/SetCardStatus"), { key: { indexCode }, requestId: undefined, status, comment: "", expectedVersion: 0 });
      expect(await failureOf(detokenize(token, {}, secondServer))).toMatchObject({ reason: "CARD_STATUS" });
      expect(await detokenize(token, { purpose: "REFUND" }, secondServer)).toBe(pan.openDigits());
      expect(await detokenize(token, { purpose: "CHARGEBACK" })).toBe(pan.openDigits());
      expect(await failureOf(tokenize(tokenizeRequest({ pan })))).toMatchObject({ reason: "CARD_STATUS" });
    }
  });

  it("changes as product.md allows and in no other way, and refuses a lost update", async () => {
    const names = ["active", "frozen", "lost", "stolen", "closed"] as const;
    const allowed = new Set(["active frozen", "frozen active", "active lost", "active stolen", "frozen lost", "frozen stolen", "lost active", "lost closed", "stolen closed", "active closed", "frozen closed"]);
    for (const from of names) {
      for (const to of names) {
        const { indexCode, cardId } = await tokenize(tokenizeRequest());
        await ground.admin("update cards set status = $1 where card_id = $2", [cardStatus[from], cardId]);
        const change = rooms.cards.setStatus(testCall("CardService/SetCardStatus"), { key: { indexCode }, requestId: undefined, status: cardStatus[to], comment: "", expectedVersion: 1 });
        if (allowed.has(`${from} ${to}`)) expect(await change).toMatchObject({ status: cardStatus[to], version: 2 });
        else expect(await failureOf(change)).toMatchObject({ reason: "STATUS_TRANSITION" });
      }
    }
    const { indexCode } = await tokenize(tokenizeRequest());
    const freeze = { key: { indexCode }, requestId: undefined, status: cardStatus.frozen, comment: "", expectedVersion: 7 } as const;
    expect(await failureOf(rooms.cards.setStatus(testCall("CardService/SetCardStatus"), freeze))).toMatchObject({ reason: "VERSION_MISMATCH" });
  });

  it("reads EXPIRED where the expiry is past, unless it is graver", async () => {
    const { indexCode, cardId } = await tokenize(tokenizeRequest());
    await ground.admin("update cards set expiry = 202001 where card_id = $1", [cardId]);
    const read = async () => open((await rooms.cards.getCards(testCall("CardService/GetCard"), [{ indexCode }]))[0]).card.status;
    expect(await read()).toBe(cardStatus.expired);
    await ground.admin("update cards set status = 2 where card_id = $1", [cardId]);
    expect(await read()).toBe(cardStatus.frozen);
  });
});

describe("index codes", () => {
  it("are 16 digits of institution, type and serial that never pass Luhn", async () => {
    const { indexCode } = await tokenize(tokenizeRequest());
    const [row] = await ground.admin<{ institution: string }>("select institution from tenants where tenant = 'acme'");
    expect(indexCode).toMatch(/^[0-9]{16}$/);
    expect(indexCode.startsWith(`${row?.institution ?? "-"}01`)).toBe(true);
    expect(passesLuhn(indexCode)).toBe(false);
  });

  it("rotate: the old one answers for its grace period without telling the new one, then never again", async () => {
    const { indexCode } = await tokenize(tokenizeRequest());
    const rotate = (key: { indexCode: string }, grace_s: number) => rooms.cards.rotateIndexCode(testCall("CardService/RotateIndexCode"), { key, requestId: undefined, grace_s });
    const rotated = await rotate({ indexCode }, 3600);
    expect(rotated.card.indexCode).not.toBe(indexCode);
    const get = async (code: string) => open((await secondServer.cards.getCards(testCall("CardService/GetCard"), [{ indexCode: code }]))[0]);
    expect(await get(indexCode)).toMatchObject({ card: { indexCode: "" } });
    expect((await get(rotated.card.indexCode)).oldCodeExpiresAt).toBeUndefined();
    const again = await rotate({ indexCode: rotated.card.indexCode }, 0);
    expect(await failureOf(get(rotated.card.indexCode))).toMatchObject({ reason: "NOT_FOUND" });
    expect(again.card.version).toBe(3);
    expect(await ground.admin("select 1 from index_codes where code = $1", [rotated.card.indexCode])).toHaveLength(1);
  });

  it("repeat a rotation by request_id with the same answer, also when the code that named the card has ended", async () => {
    const { indexCode } = await tokenize(tokenizeRequest());
    const requestId = randomUUID();
    const rotate = () => rooms.cards.rotateIndexCode(testCall("CardService/RotateIndexCode"), { key: { indexCode }, requestId, grace_s: 0 });
    const first = await rotate();
    expect(await rotate()).toEqual(first);
  });
});

describe("what a review found", () => {
  it("a batch that repeats another call's request_id leaves no token without an entry, also while that call is prepared anew", async () => {
    for (let i = 0; i < 6; i++) {
      const pan = randomPan();
      const twin = tokenizeRequest({ pan, name: "A NAME", requestId: randomUUID() });
      const other = randomPan();
      const calls = [testCall("TokenService/BatchTokenize"), testCall("TokenService/BatchTokenize"), testCall("TokenService/Tokenize")];
      const [a, b, c] = calls as [(typeof calls)[0], (typeof calls)[0], (typeof calls)[0]];
      await Promise.all([
        secondServer.tokenizer.tokenize(c, [tokenizeRequest({ pan })]),
        rooms.tokenizer.tokenize(a, [twin]),
        rooms.tokenizer.tokenize(b, [twin, tokenizeRequest({ pan: other })]),
      ]);
      const made = await ground.admin<{ token: string }>("select t.token from tokens t join cards c using (tenant, card_id) where c.last_four = $1 and c.bin = $2", [other.truncated.lastFour, other.truncated.bin]);
      expect(made).toHaveLength(1);
      expect(b.resources.map(({ token }) => token)).toContain(made[0]?.token);
    }
  });

  it("an index code that a rotation of the same batch ended names its card no longer", async () => {
    const { indexCode } = await tokenize(tokenizeRequest());
    const rotate = () => rooms.cards.rotateIndexCode(testCall("CardService/RotateIndexCode"), { key: { indexCode }, requestId: undefined, grace_s: 0 });
    const results = await Promise.allSettled([rotate(), rotate()]);
    expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    expect(results.find((result) => result.status === "rejected")).toMatchObject({ reason: { reason: "NOT_FOUND" } });
  });

  it("a Detokenize tells the status that its transaction judged", async () => {
    const { token, cardId } = await tokenize(tokenizeRequest({ uses_max: 3 }));
    const other = new pg.Client({ connectionString: ground.fresh.adminUrl, options: "-c search_path=cardex" });
    await other.connect();
    await other.query("begin");
    await other.query("select 1 from tokens where token = $1 for update", [token]);
    const reveal = rooms.detokenizer.detokenize(testCall("TokenService/Detokenize"), "REFUND", [{ token, requestId: undefined }]);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await ground.admin("update cards set status = 4 where card_id = $1", [cardId]);
    await other.query("commit");
    await other.end();
    expect(open((await reveal)[0]).status).toBe(cardStatus.stolen);
  });

  it("an entry of a call that failed names no token that was rolled back", async () => {
    const call = testCall("TokenService/Tokenize");
    const bad = { name: "z poison", run: () => Promise.reject(new Error("poison")) };
    const good = rooms.tokenizer.tokenize(call, [tokenizeRequest()]);
    const poisoned = testCall("TokenService/Tokenize");
    poisoned.resources = [{ card: "named before" }];
    const kind = {
      name: "a names",
      run: (_tx: unknown, jobs: readonly { call: typeof call }[]) => {
        for (const job of jobs) job.call.resources = [{ token: "tok_never" }];
        return Promise.reject(new Error("poison"));
      },
    };
    await Promise.allSettled([good, rooms.mutations.submit(bad, testCall("TokenService/Tokenize"), undefined), rooms.mutations.submit(kind, poisoned, undefined)]);
    expect(poisoned.resources).toEqual([{ card: "named before" }]);
    expect(call.resources).toHaveLength(1);
  });
});

describe("a lock that another holds", () => {
  it("on a limited token: the card's status is judged after the wait, so that a stolen card releases nothing", async () => {
    const { token, cardId } = await tokenize(tokenizeRequest({ uses_max: 9 }));
    const other = new pg.Client({ connectionString: ground.fresh.adminUrl, options: "-c search_path=cardex" });
    await other.connect();
    await other.query("begin");
    await other.query("select 1 from tokens where token = $1 for update", [token]);
    const reveal = detokenize(token);
    reveal.catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await ground.admin("update cards set status = 4 where card_id = $1", [cardId]);
    await other.query("commit");
    await other.end();
    expect(await failureOf(reveal)).toMatchObject({ reason: "CARD_STATUS" });
  });

  it("for long, on a request_id: whoever shares the batch is committed, and only its own caller is told UNAVAILABLE", async () => {
    const requestId = randomUUID();
    const held = new pg.Client({ connectionString: ground.fresh.adminUrl, options: "-c search_path=cardex" });
    await held.connect();
    await held.query("begin");
    await held.query("insert into requests (tenant, principal, rpc, request_id, mac) values ('acme', 'spiffe://test/tenant/acme/gateway', 'cardex.v1.TokenService/Tokenize', $1, $2)", [requestId, Buffer.alloc(32)]);
    const outcomes = await Promise.allSettled([
      ...Array.from({ length: 5 }, () => tokenize(tokenizeRequest())),
      tokenize(tokenizeRequest({ requestId })),
      ...Array.from({ length: 5 }, () => tokenize(tokenizeRequest())),
    ]);
    await held.query("rollback");
    await held.end();
    expect(outcomes.map((outcome) => outcome.status)).toEqual([...Array.from({ length: 5 }, () => "fulfilled"), "rejected", ...Array.from({ length: 5 }, () => "fulfilled")]);
    expect(outcomes[5]).toMatchObject({ reason: { reason: "STORE_UNAVAILABLE", inner: "busy" } });
    await tokenize(tokenizeRequest({ requestId }));
  });
});

describe("the audit log", () => {
  it("names every item of a batch in its place, the malformed and refused ones too, in one entry with the true outcome", async () => {
    const malformed = new Failure("INVALID_FIELD", "pan: wrong");
    const limited = new Failure("LIMIT", "too many", { limit: "tokenizationsPerMaskedPan" });
    const mixed = testCall("TokenService/BatchTokenize");
    await rooms.tokenizer.tokenize(mixed, [malformed, tokenizeRequest(), limited]);
    const wrong = testCall("TokenService/BatchTokenize");
    await rooms.tokenizer.tokenize(wrong, [malformed, malformed]);
    const pan = randomPan();
    const raced = testCall("TokenService/BatchTokenize");
    const other = testCall("TokenService/BatchTokenize");
    await Promise.all([
      rooms.tokenizer.tokenize(raced, [tokenizeRequest({ pan, name: "A" }), tokenizeRequest({ pan, name: "B" }), tokenizeRequest()]),
      rooms.tokenizer.tokenize(other, [tokenizeRequest({ pan, name: "C" }), tokenizeRequest()]),
    ]);
    const entries = await verifiedEntries(ground);
    const of = (call: { id: string }) => entries.filter((entry) => entry["call"] === call.id);
    expect(of(mixed)).toMatchObject([{ outcome: "done", resources: [{ outcome: "malformed" }, { outcome: "done" }, { outcome: "failed", reason: "LIMIT" }] }]);
    expect(of(wrong)).toMatchObject([{ outcome: "malformed", resources: [{ outcome: "malformed" }, { outcome: "malformed" }] }]);
    for (const [call, items] of [[raced, 3], [other, 2]] as const) {
      expect(of(call)).toHaveLength(1);
      expect(of(call)[0]?.["resources"]).toHaveLength(items);
    }
  });

  it("has an entry for every call, whose chains verify, and no PAN in any", async () => {
    const pan = Pan.parse(`400000${"123456789"}${luhnCheckDigit("400000123456789")}`);
    const { token, indexCode, cardId } = await tokenize(tokenizeRequest({ pan, name: "CANARY" }));
    await detokenize(token);
    const entries = await verifiedEntries(ground);
    const mine = entries.filter((entry) => JSON.stringify(entry).includes(token));
    expect(mine.map((entry) => [entry["rpc"], entry["outcome"]])).toEqual(
      expect.arrayContaining([
        ["cardex.v1.TokenService/Tokenize", "done"],
        ["cardex.v1.TokenService/Detokenize", "released"],
      ]),
    );
    expect(mine[0]?.["resources"] ?? mine[1]?.["resources"]).toEqual([expect.objectContaining({ card: cardId })]);
    expect(indexCode).not.toBe("");
    expect(JSON.stringify(entries)).not.toContain(pan.openDigits());
  });

  it("splits a batch of 1,000 over entries k of n of at most 16 KiB, in one commit", async () => {
    const { token } = await tokenize(tokenizeRequest());
    const call = testCall("TokenService/BatchDetokenize");
    await rooms.detokenizer.detokenize(call, "PAYMENT", Array.from({ length: 1000 }, () => ({ token, requestId: undefined })));
    const parts = (await verifiedEntries(ground)).filter((entry) => entry["call"] === call.id);
    expect(parts.length).toBeGreaterThan(1);
    expect(parts.map((entry) => entry["part"])).toEqual(parts.map((_, i) => i + 1));
    expect(parts.flatMap((entry) => entry["resources"] as unknown[])).toHaveLength(1000);
    expect(new Set(parts.map((entry) => entry["time"])).size).toBe(1);
  });
});
