import { randomUUID } from "node:crypto";
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { CardStatus } from "../../gen/cardex/v1/card_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { Purpose, TokenService, TokenStatus } from "../../gen/cardex/v1/token_service_pb.js";
import { demoTenant } from "../../src/dev/installation.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Api, type Caller } from "../support/api.js";
import { refusalOf, type RefusedCall } from "../support/edge-client.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { LogReader } from "../support/log-reader.js";
import { openProxy, type PostgresProxy } from "../support/postgres-proxy.js";

const otherTenant = "other";
const guesses_max = 3;
const { tokenize, detokenize, batchDetokenize, getToken, revokeToken } = TokenService.method;
const { getCard, setCardStatus, rotateIndexCode } = CardService.method;

let proxy: PostgresProxy;
let vault: TestInstallation;
let api: Api;
let log: LogReader;
let gateway: Caller;
let operations: Caller;
let other: Caller;
/** A gateway that policy gives tokens of the scope shop-1 only. */
let shop: Caller;
let cards = 0;

beforeAll(async () => {
  vault = await startInstallation({
    tenants: [demoTenant, otherTenant],
    overrides: { limits: { tokenizationsPerMaskedPan: guesses_max, messageSize_bytes: 65_536 }, database: { statement_ms: 1500 } },
    databaseThrough: async (url) => (proxy = await openProxy(url)).url,
  });
  api = await Api.of(vault);
  log = new LogReader(vault.database.adminUrl);
  gateway = await api.as("payment-gateway");
  operations = await api.as("card-operations");
  other = await api.as("payment-gateway", otherTenant);
  await api.addRules([
    "p, shop-gateway, *, TokenService, *, (none), allow",
    "p, shop-gateway, *, TokenService, *, PAYMENT, allow",
    "p, shop-gateway, *, CardService, GetCard, (none), allow",
    "p, shop-gateway, *, scope, shop-1, *, allow",
    "p, shop-gateway, *, view, masked, *, allow",
  ]);
  shop = await api.principal("shop-1", "shop-gateway");
});

afterAll(async () => {
  await log.close();
  await api.close();
  await vault.stop();
  await proxy.close();
});

function newCard(): { pan: string; expiry: { year: number; month: number } } {
  return { pan: testCard((cards += 1)).pan, expiry: { year: 2035, month: 1 } };
}

async function newToken(options: object = {}): Promise<{ token: string; indexCode: string }> {
  return await gateway.call(tokenize, { ...newCard(), options });
}

const byToken = (token: string) => ({ key: { case: "token" as const, value: token } });
const byCode = (code: string) => ({ key: { case: "indexCode" as const, value: code } });

async function setStatus(token: string, status: CardStatus): Promise<void> {
  await operations.call(setCardStatus, { card: byToken(token), status });
}

/** ErrorInfo, and what else this row of the table has. */
function expectRefusal(refusal: RefusedCall, code: string, reason: string, ...details: object[]): void {
  expect(refusal).toMatchObject({ code, reason, details: [{ $typeName: "google.rpc.ErrorInfo", reason, domain: "cardex" }, ...details] });
  expect(refusal.details).toHaveLength(details.length + 1);
  expect(`${refusal.text}${refusal.bytes?.toString("latin1")}`).not.toMatch(/\d{9,}|tok_|\/(work|tmp|home|src)\/|at \w+ \(/);
}

describe("the error table", () => {
  it("a malformed field is INVALID_ARGUMENT with a BadRequest that names every field that is wrong", async () => {
    const refusal = await gateway.refused(tokenize, { pan: "4111111111111112", expiry: { year: 2035, month: 13 } });
    expectRefusal(refusal, "INVALID_ARGUMENT", "INVALID_FIELD", { $typeName: "google.rpc.BadRequest", fieldViolations: [{ field: "pan" }, { field: "expiry.month" }] });
  });

  it("bytes that are no message, one that is too large, and a method that there is not have reasons of their own", async () => {
    const refused = (path: string, bytes: Buffer): Promise<RefusedCall> => refusalOf(gateway.bytes(path, bytes));
    expectRefusal(await refused("/cardex.v1.TokenService/GetToken", Buffer.from([0xff])), "INVALID_ARGUMENT", "MALFORMED_MESSAGE");
    expectRefusal(await refused("/cardex.v1.TokenService/GetToken", Buffer.alloc(65_537)), "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE");
    expectRefusal(await refused("/cardex.v1.TokenService/Nothing", Buffer.alloc(0)), "UNIMPLEMENTED", "UNKNOWN_METHOD");
  });

  it("a caller without a certificate gets no connection", async () => {
    expect(await api.with(undefined).refused(getToken, {})).toMatchObject({ code: "UNAVAILABLE", bytes: undefined });
  });

  it("a certificate that names no known principal is UNAUTHENTICATED", async () => {
    expectRefusal(await (await api.stranger("nobody")).refused(getToken, {}), "UNAUTHENTICATED", "UNKNOWN_PRINCIPAL");
  });

  it("what policy says no to is PERMISSION_DENIED, and so is a purpose that it does not allow", async () => {
    const { token } = await newToken({ scope: "shop-1" });
    expectRefusal(await operations.refused(detokenize, { token, purpose: Purpose.PAYMENT }), "PERMISSION_DENIED", "DENIED");
    expectRefusal(await shop.refused(detokenize, { token, purpose: Purpose.REFUND }), "PERMISSION_DENIED", "DENIED");
    expect((await shop.call(detokenize, { token, purpose: Purpose.PAYMENT })).pan).toMatch(/^\d+$/);
  });

  it("a request_id that was used with another request is ALREADY_EXISTS", async () => {
    const requestId = randomUUID();
    await gateway.call(tokenize, { ...newCard(), requestId });
    expectRefusal(await gateway.refused(tokenize, { ...newCard(), requestId }), "ALREADY_EXISTS", "REQUEST_ID_REUSED");
  });

  it("a status that forbids it is FAILED_PRECONDITION with a PreconditionFailure about the card", async () => {
    const card = newCard();
    const { token } = await gateway.call(tokenize, card);
    await setStatus(token, CardStatus.STOLEN);
    const about = (type: string): object => ({ $typeName: "google.rpc.PreconditionFailure", violations: [{ type, subject: "card" }] });
    expectRefusal(await gateway.refused(detokenize, { token, purpose: Purpose.PAYMENT }), "FAILED_PRECONDITION", "CARD_STATUS", about("CARD_STATUS"));
    expectRefusal(await gateway.refused(tokenize, card), "FAILED_PRECONDITION", "CARD_STATUS", about("CARD_STATUS"));
    const thaw = { card: byToken(token), status: CardStatus.ACTIVE };
    expectRefusal(await operations.refused(setCardStatus, thaw), "FAILED_PRECONDITION", "STATUS_TRANSITION", about("STATUS_TRANSITION"));
  });

  it("a card that changed meanwhile is ABORTED", async () => {
    const { token } = await newToken();
    const refusal = await operations.refused(setCardStatus, { card: byToken(token), status: CardStatus.FROZEN, expectedVersion: 7n });
    expectRefusal(refusal, "ABORTED", "VERSION_MISMATCH");
  });

  it("a tenant that has roles and no key is FAILED_PRECONDITION with a PreconditionFailure about the key", async () => {
    const keyless = await api.principal("early", "payment-gateway", "keyless");
    const about = { $typeName: "google.rpc.PreconditionFailure", violations: [{ type: "KEY_STATE", subject: "key" }] };
    expectRefusal(await keyless.refused(tokenize, newCard()), "FAILED_PRECONDITION", "KEY_STATE", about);
  });

  it("a limit is RESOURCE_EXHAUSTED with its name and when to try again", async () => {
    const card = newCard();
    for (let i = 0; i < guesses_max; i += 1) await gateway.call(tokenize, card);
    const refusal = await gateway.refused(tokenize, card);
    const quota = { $typeName: "google.rpc.QuotaFailure", violations: [{ subject: "tokenizationsPerMaskedPan" }] };
    expectRefusal(refusal, "RESOURCE_EXHAUSTED", "LIMIT", quota, { $typeName: "google.rpc.RetryInfo", retryDelay: { $typeName: "google.protobuf.Duration" } });
  });

  it("a deadline that passes is DEADLINE_EXCEEDED", async () => {
    expect(await gateway.refused(getToken, { token: "99000000000" }, { deadline: 1 })).toMatchObject({ code: "DEADLINE_EXCEEDED" });
  });

  it("a ciphertext that does not verify is DATA_LOSS, and an alert in the log, the health and the metrics", async () => {
    const { token } = await newToken();
    const mark = await log.mark();
    await log.sql("update cards set sealed = set_byte(sealed, length(sealed) - 1, get_byte(sealed, length(sealed) - 1) # 1) where card_id = (select card_id from tokens where token = $1)", [token]);
    expectRefusal(await gateway.refused(detokenize, { token, purpose: Purpose.PAYMENT }), "DATA_LOSS", "INTEGRITY");
    await vi.waitFor(async () => expect((await log.entries("system", mark)).map(({ kind }) => kind)).toContain("alert.card.not_verified"));
    expect(await probe("readyz")).toContain("card.not_verified");
    expect(await probe("metrics")).toMatch(/cardex_alerts_total\{alert="card.not_verified"\} 1/);
  });

  it("a database that is away is UNAVAILABLE with RetryInfo and no PAN; when it is back, so is the service", async () => {
    const { token } = await newToken();
    proxy.down();
    const retry = { $typeName: "google.rpc.RetryInfo", retryDelay: { seconds: 1n } };
    for (const purpose of [Purpose.PAYMENT, Purpose.REFUND]) {
      expectRefusal(await gateway.refused(detokenize, { token, purpose }), "UNAVAILABLE", "STORE_UNAVAILABLE", retry);
    }
    expectRefusal(await gateway.refused(tokenize, newCard()), "UNAVAILABLE", "STORE_UNAVAILABLE", retry);
    expect(await probe("readyz")).toContain('"ready":false');
    proxy.up();
    await vi.waitFor(async () => await gateway.call(detokenize, { token, purpose: Purpose.PAYMENT }), { timeout: 20_000, interval: 100 });
  });

  it("an HSM that is away is UNAVAILABLE with RetryInfo, and an alert; when it is back, every token is", async () => {
    const { token } = await newToken();
    const place = join(vault.layout.hsm, "tokens");
    await rename(place, `${place}-gone`);
    try {
      await vi.waitFor(async () => expect(await probe("readyz")).toMatch(/"hsm":\{"ok":false/), { timeout: 20_000, interval: 100 });
      const retry = { $typeName: "google.rpc.RetryInfo", retryDelay: { seconds: 1n } };
      expectRefusal(await gateway.refused(detokenize, { token, purpose: Purpose.PAYMENT }), "UNAVAILABLE", "HSM_UNAVAILABLE", retry);
      expectRefusal(await gateway.refused(tokenize, newCard()), "UNAVAILABLE", "HSM_UNAVAILABLE", retry);
    } finally {
      await rename(`${place}-gone`, place);
    }
    await vi.waitFor(async () => await gateway.call(detokenize, { token, purpose: Purpose.PAYMENT }), { timeout: 30_000, interval: 100 });
    expect((await log.entries("system")).map(({ kind }) => kind)).toContain("alert.hsm.recovering");
  });
});

async function probe(page: string): Promise<string> {
  return await (await fetch(`http://127.0.0.1:${vault.server().probePort}/${page}`)).text();
}

describe("retrieval is no oracle", () => {
  /** Tokens that the caller can't have, by why not. */
  let dead: ReadonlyMap<string, string>;

  beforeAll(async () => {
    const inScope = { scope: "shop-1" };
    const [revoked, expired, usedUp, elsewhere] = await Promise.all([newToken(inScope), newToken({ ...inScope, ttl: { seconds: 1n } }), newToken({ ...inScope, maxUses: 1 }), newToken({ scope: "shop-2" })]);
    await gateway.call(revokeToken, { token: revoked.token });
    await gateway.call(detokenize, { token: usedUp.token, purpose: Purpose.PAYMENT });
    await vi.waitFor(async () => expect((await gateway.call(getToken, { token: expired.token })).token?.status).toBe(TokenStatus.EXPIRED), { timeout: 10_000 });
    const foreign = await other.call(tokenize, { ...newCard(), options: inScope });
    dead = new Map([
      ["unknown", "99000000000"],
      ["revoked", revoked.token],
      ["expired", expired.token],
      ["used up", usedUp.token],
      ["of another scope", elsewhere.token],
      ["without a scope, to who may have one scope only", (await newToken()).token],
      ["of another tenant", foreign.token],
    ]);
  });

  const bytesOf = (refusal: RefusedCall | undefined): string => `${refusal?.code} ${refusal?.text} ${refusal?.bytes?.toString("hex")}`;

  it("Detokenize answers NOT_FOUND in the same bytes, whatever is the matter with the token", async () => {
    const seen = new Map<string, string[]>();
    for (const [why, token] of dead) {
      for (const requestId of ["", randomUUID()]) {
        const refusal = await shop.refused(detokenize, { token, purpose: Purpose.PAYMENT, requestId });
        expectRefusal(refusal, "NOT_FOUND", "NOT_FOUND");
        seen.set(bytesOf(refusal), [...(seen.get(bytesOf(refusal)) ?? []), why]);
      }
    }
    expect([...seen.values()]).toHaveLength(1);
  });

  it("BatchDetokenize answers every such item alike", async () => {
    const { results } = await shop.call(batchDetokenize, { items: [...dead.values()].map((token) => ({ token })), purpose: Purpose.PAYMENT });
    expect(results).toHaveLength(dead.size);
    expect(results[0]?.result).toMatchObject({ case: "error", value: { code: 5 } });
    for (const { result } of results) expect(result).toEqual(results[0]?.result);
  });

  it("GetCard answers NOT_FOUND in the same bytes, by token and by index code", async () => {
    const ended = await newToken();
    await operations.call(rotateIndexCode, { card: byCode(ended.indexCode), gracePeriod: { seconds: 0n } });
    const foreign = await other.call(tokenize, newCard());
    const keys = [...["unknown", "revoked", "expired", "used up", "of another tenant"].map((why) => byToken(dead.get(why) ?? "")), byCode(ended.indexCode), byCode(foreign.indexCode)];
    const seen = new Set<string>();
    for (const card of keys) {
      const refusal = await shop.refused(getCard, { card });
      expectRefusal(refusal, "NOT_FOUND", "NOT_FOUND");
      seen.add(bytesOf(refusal));
    }
    expect(seen.size).toBe(1);
  });

  it("the audit log tells them apart all the same", async () => {
    const mark = await log.mark();
    for (const token of dead.values()) await shop.refused(detokenize, { token, purpose: Purpose.PAYMENT });
    expect((await log.entries(demoTenant, mark)).map(({ reason }) => reason)).toEqual(["unknown", "revoked", "expired", "used up", "scope", "scope", "unknown"]);
  });

  it("GetToken tells the token's own tenant what it is, and nobody else", async () => {
    const statusOf = async (why: string): Promise<TokenStatus | undefined> => (await gateway.call(getToken, { token: dead.get(why) ?? "" })).token?.status;
    expect(await statusOf("revoked")).toBe(TokenStatus.REVOKED);
    expect(await statusOf("expired")).toBe(TokenStatus.EXPIRED);
    expect(await statusOf("used up")).toBe(TokenStatus.USED_UP);
    expect(await statusOf("of another scope")).toBe(TokenStatus.ACTIVE);
    const refusals = await Promise.all(["unknown", "of another tenant"].map(async (why) => bytesOf(await gateway.refused(getToken, { token: dead.get(why) ?? "" }))));
    expect(refusals[0]).toBe(refusals[1]);
    expect(refusals[0]).toContain("NOT_FOUND");
  });
});
