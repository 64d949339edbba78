import { randomUUID } from "node:crypto";
import { connect as connectHttp2 } from "node:http2";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type AuditOutcome, AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardStatus } from "../../gen/cardex/v1/card_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import type { BadRequest } from "../../gen/google/rpc/error_details_pb.js";
import { Purpose, TokenFormat, type TokenizeRequestSchema, TokenReuse, TokenService, TokenStatus, TokenizeRequestSchema as tokenizeSchema } from "../../gen/cardex/v1/token_service_pb.js";
import { issueCertificate, makeAuthority, spiffeId } from "../../src/dev/certificates.js";
import { demoTenant, trustDomain } from "../../src/dev/installation.js";
import { testCard } from "../../src/dev/test-cards.js";
import { clock } from "../../src/clock.js";
import { pathOf } from "../../src/rpc/definition.js";
import { Api, type Caller } from "../support/api.js";
import { refusalOf, type RefusedCall } from "../support/edge-client.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { LogReader } from "../support/log-reader.js";

const messageSize_bytes = 1_048_576;
const batchItems = 1000;
const pageSize = 1000;
const day_ms = 86_400_000;
/** Ten years of 366 days. */
const tenYears_s = 316_224_000n;
const { tokenize, batchTokenize, detokenize, batchDetokenize, getToken, listTokens, revokeToken } = TokenService.method;
const { getCard, batchGetCards, setCardStatus, rotateIndexCode } = CardService.method;
const { listEntries, exportEntries } = AuditService.method;

const pan = testCard(0).pan;
const expiry = { year: 2035, month: 1 };
const now = clock.now();

let vault: TestInstallation;
let api: Api;
let log: LogReader;
let gateway: Caller;
let operations: Caller;
let auditor: Caller;
let token: string;
let indexCode: string;

beforeAll(async () => {
  vault = await startInstallation({ overrides: { limits: { tokenizationsPerMaskedPan: 10_000, messageSize_bytes, batchItems, pageSize } } });
  api = await Api.of(vault);
  log = new LogReader(vault.database.adminUrl);
  gateway = await api.as("payment-gateway");
  operations = await api.as("card-operations");
  auditor = await api.as("auditor");
  ({ token, indexCode } = await gateway.call(tokenize, { pan, expiry }));
});

afterAll(async () => {
  await log.close();
  await api.close();
  await vault.stop();
});

/** Nothing is lost or left behind by what was refused. */
afterEach(async () => {
  expect((await gateway.call(detokenize, { token, purpose: Purpose.PAYMENT })).pan).toBe(pan);
});

/** Names of the fields that were wrong, in order. */
function fieldsOf(refusal: RefusedCall): string[] {
  const bad = refusal.details.find((detail): detail is BadRequest => detail.$typeName === "google.rpc.BadRequest");
  return bad?.fieldViolations.map(({ field }) => field) ?? [];
}

/** INVALID_ARGUMENT for exactly these fields, with a description for each and not a digit of a card in any. */
function expectInvalid(refusal: RefusedCall, ...fields: string[]): void {
  expect(refusal).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD" });
  expect(fieldsOf(refusal)).toEqual(fields);
  expect(`${refusal.text} ${refusal.bytes?.toString("latin1")}`).not.toMatch(/\d{7,}/);
}

const nextMonthOf = (date: Date, months: number): { year: number; month: number } => {
  const month = date.getUTCFullYear() * 12 + date.getUTCMonth() + months;
  return { year: Math.floor(month / 12), month: (month % 12) + 1 };
};

type Tokenize = Omit<MessageInitShape<typeof TokenizeRequestSchema>, "$typeName" | "$unknown">;

describe("Tokenize refuses, naming the field:", () => {
  it.each<[string, Tokenize, ...string[]]>([
    ["a PAN of 7 digits", { pan: "4111116" }, "pan"],
    ["a PAN of 20 digits", { pan: "41111111111111111111" }, "pan"],
    ["a PAN that does not pass Luhn", { pan: "4111111111111112" }, "pan"],
    ["a PAN with letters", { pan: "411111111111111l" }, "pan"],
    ["a PAN in Arabic-Indic digits", { pan: "٤١١١١١١١١١١١١١١١" }, "pan"],
    ["a PAN in full-width digits", { pan: "４１１１１１１１１１１１１１１１" }, "pan"],
    ["a PAN with spaces", { pan: "4111 1111 1111 1111" }, "pan"],
    ["a PAN with a line feed behind it", { pan: "4111111111111111\n" }, "pan"],
    ["no PAN", { pan: "" }, "pan"],
    ["an expiry of last month", { expiry: nextMonthOf(now, -1) }, "expiry"],
    ["month 13", { expiry: { year: 2035, month: 13 } }, "expiry.month"],
    ["month 0", { expiry: { year: 2035 } }, "expiry.month"],
    ["a year of two digits", { expiry: { year: 35, month: 1 } }, "expiry.year"],
    ["a name with a PAN in it", { cardholderName: `ADA ${pan} LOVELACE` }, "cardholder_name"],
    ["a name with a PAN in groups", { cardholderName: "4111-1111-1111-1111" }, "cardholder_name"],
    ["a name with a PAN in full-width digits", { cardholderName: "４１１１１１１１１１１１１１１１" }, "cardholder_name"],
    ["a name with a CVV in it", { cardholderName: "ADA CVV: 123" }, "cardholder_name"],
    ["a name with track data in it", { cardholderName: "B4111111111111112^LOVELACE/ADA^3501" }, "cardholder_name"],
    ["a name with a control character", { cardholderName: "ADA\u0000LOVELACE" }, "cardholder_name"],
    ["a name of 129 characters", { cardholderName: "A".repeat(129) }, "cardholder_name"],
    ["a reference with a PAN in it", { externalReference: `order-${pan}` }, "external_reference"],
    ["a reference with a CVV in it", { externalReference: "cvv=123" }, "external_reference"],
    ["a reference that is not ASCII", { externalReference: "Bestellung Nº 5" }, "external_reference"],
    ["a reference of 129 characters", { externalReference: "r".repeat(129) }, "external_reference"],
    ["a format that there is not", { options: { format: 7 as TokenFormat } }, "options.format"],
    ["a reuse that there is not", { options: { reuse: 7 as TokenReuse } }, "options.reuse"],
    ["a scope of 65 characters", { options: { scope: "s".repeat(65) } }, "options.scope"],
    ["a scope in capitals", { options: { scope: "Shop" } }, "options.scope"],
    ["a scope that is a PAN", { options: { scope: pan } }, "options.scope"],
    ["a time to live of 0", { options: { ttl: { seconds: 0n } } }, "options.ttl"],
    ["a time to live below 0", { options: { ttl: { seconds: -1n } } }, "options.ttl"],
    ["a time to live of more than ten years", { options: { ttl: { seconds: tenYears_s + 1n } } }, "options.ttl"],
    ["a time to live that is no whole second", { options: { ttl: { seconds: 1n, nanos: 1 } } }, "options.ttl"],
    ["-1 uses", { options: { maxUses: -1 } }, "options.max_uses"],
    ["1,000,001 uses", { options: { maxUses: 1_000_001 } }, "options.max_uses"],
    ["last four digits in an opaque token", { options: { keepLastFour: true } }, "options.keep_last_four"],
    ["a reused token with a time to live", { options: { reuse: TokenReuse.SAME_CARD_AND_SCOPE, ttl: { seconds: 60n } } }, "options.reuse"],
    ["a numeric token for a PAN of 10 digits", { pan: "4000000002", options: { format: TokenFormat.NUMERIC } }, "options.format"],
    ["a request_id that is no UUID", { requestId: "order-1" }, "request_id"],
    [
      "everything that is wrong, at once",
      { requestId: "1", pan: "1", expiry: { year: 2035, month: 13 }, cardholderName: pan, externalReference: pan, options: { format: 9 as TokenFormat, scope: "-", reuse: 9 as TokenReuse, ttl: { seconds: 0n }, maxUses: -1 } },
      "request_id",
      "pan",
      "expiry.month",
      "cardholder_name",
      "external_reference",
      "options.format",
      "options.scope",
      "options.reuse",
      "options.ttl",
      "options.max_uses",
    ],
  ])("%s", async (_what, wrong, ...fields) => {
    const mark = await log.mark();
    const request = { pan, expiry, ...wrong };
    expectInvalid(await gateway.refused(tokenize, request), ...fields);
    expect(await log.entries(demoTenant, mark)).toMatchObject([{ rpc: "cardex.v1.TokenService/Tokenize", outcome: "malformed", reason: "INVALID_FIELD" }]);
    // As an item of a batch it fails alone, with the same fields.
    const { results } = await gateway.call(batchTokenize, { requests: [{ pan, expiry }, request, { pan, expiry }] });
    expect(results.map(({ result }) => result.case)).toEqual(["response", "error", "response"]);
    const middle = results[1]?.result;
    expect(middle?.case === "error" ? middle.value.fieldViolations.map(({ field }) => field) : []).toEqual(fields);
  });

  it("an expiry that is missing", async () => {
    expectInvalid(await gateway.refused(tokenize, { pan }), "expiry");
  });
});

describe("Tokenize takes what is just within its limits:", () => {
  it.each<[string, Tokenize]>([
    ["a PAN of 8 digits", { pan: "41111113" }],
    ["a PAN of 19 digits", { pan: "4111111111111111110" }],
    ["an expiry of this month", { expiry: nextMonthOf(now, 0) }],
    ["a name of 128 characters", { cardholderName: "Å".repeat(128) }],
    ["a reference of 128 characters", { externalReference: "~".repeat(128) }],
    ["a scope of 64 characters", { options: { scope: "s".repeat(64) } }],
    ["a time to live of 1 second", { options: { ttl: { seconds: 1n } } }],
    ["a time to live of ten years", { options: { ttl: { seconds: tenYears_s } } }],
    ["1 use", { options: { maxUses: 1 } }],
    ["1,000,000 uses", { options: { maxUses: 1_000_000 } }],
    ["a numeric token for a PAN of 11 digits", { pan: "40000000006", options: { format: TokenFormat.NUMERIC } }],
    ["a request_id in capitals", { requestId: randomUUID().toUpperCase() }],
  ])("%s", async (_what, right) => {
    expect((await gateway.call(tokenize, { pan, expiry, ...right })).token).not.toBe("");
  });
});

describe("every other RPC refuses, naming the field:", () => {
  const key = () => ({ key: { case: "token" as const, value: token } });
  const keyOf = (value: string) => ({ key: { case: "indexCode" as const, value } });
  const cursor = Buffer.from('["x",1]').toString("base64url");

  it.each<[string, () => Promise<RefusedCall>, ...string[]]>([
    ["Detokenize without a purpose", () => gateway.refused(detokenize, { token }), "purpose"],
    ["Detokenize for a purpose that there is not", () => gateway.refused(detokenize, { token, purpose: 99 as Purpose }), "purpose"],
    ["Detokenize without a token", () => gateway.refused(detokenize, { purpose: Purpose.PAYMENT }), "token"],
    ["Detokenize of a PAN", () => gateway.refused(detokenize, { token: pan, purpose: Purpose.PAYMENT }), "token"],
    ["Detokenize of a token that was cut", () => gateway.refused(detokenize, { token: token.slice(0, -1), purpose: Purpose.PAYMENT }), "token"],
    ["Detokenize of a token with a letter changed", () => gateway.refused(detokenize, { token: token.replace(/.$/, (last) => (last === "a" ? "b" : "a")), purpose: Purpose.PAYMENT }), "token"],
    ["Detokenize with a request_id that is no UUID", () => gateway.refused(detokenize, { token, purpose: Purpose.PAYMENT, requestId: "1" }), "request_id"],
    ["BatchDetokenize without a purpose", () => gateway.refused(batchDetokenize, { items: [{ token }] }), "purpose"],
    ["GetToken of an index code", () => gateway.refused(getToken, { token: indexCode }), "token"],
    ["RevokeToken without a token", () => gateway.refused(revokeToken, {}), "token"],
    ["RevokeToken with a request_id that is no UUID", () => gateway.refused(revokeToken, { token, requestId: "x" }), "request_id"],
    ["ListTokens without a card", () => gateway.refused(listTokens, {}), "card"],
    ["ListTokens of a page below 0", () => gateway.refused(listTokens, { card: key(), pageSize: -1 }), "page_size"],
    ["ListTokens of a page of 1,001", () => gateway.refused(listTokens, { card: key(), pageSize: pageSize + 1 }), "page_size"],
    ["ListTokens of a scope in capitals", () => gateway.refused(listTokens, { card: key(), scope: "S" }), "scope"],
    ["ListTokens with a page_token of somebody's own", () => gateway.refused(listTokens, { card: key(), pageToken: "next" }), "page_token"],
    ["ListTokens with a page_token of the right form and wrong content", () => gateway.refused(listTokens, { card: key(), pageToken: cursor }), "page_token"],
    ["ListTokens with a page_token that names no moment", () => gateway.refused(listTokens, { card: key(), pageToken: Buffer.from('["9999-99-99 99:99:99+00","t"]').toString("base64url") }), "page_token"],
    ["ListTokens with a page_token that names no token", () => gateway.refused(listTokens, { card: key(), pageToken: Buffer.from('["2026-01-01 00:00:00+00","\\u0000"]').toString("base64url") }), "page_token"],
    ["GetCard without a card", () => gateway.refused(getCard, {}), "card"],
    ["GetCard by a PAN", () => gateway.refused(getCard, { card: keyOf("4111111111111111") }), "card.index_code"],
    ["GetCard by a code of 15 digits", () => gateway.refused(getCard, { card: keyOf("400000000000000") }), "card.index_code"],
    ["GetCard by a malformed token", () => gateway.refused(getCard, { card: { key: { case: "token", value: "tok_1" } } }), "card.token"],
    ["SetCardStatus without a status", () => operations.refused(setCardStatus, { card: key() }), "status"],
    ["SetCardStatus to a status that there is not", () => operations.refused(setCardStatus, { card: key(), status: 99 as CardStatus }), "status"],
    ["SetCardStatus to EXPIRED", () => operations.refused(setCardStatus, { card: key(), status: CardStatus.EXPIRED }), "status"],
    ["SetCardStatus with a PAN in its comment", () => operations.refused(setCardStatus, { card: key(), status: CardStatus.FROZEN, comment: `lost ${pan}` }), "comment"],
    ["SetCardStatus at a version below 0", () => operations.refused(setCardStatus, { card: key(), status: CardStatus.FROZEN, expectedVersion: -1n }), "expected_version"],
    ["SetCardStatus with everything wrong", () => operations.refused(setCardStatus, { requestId: "1", status: 9 as CardStatus, comment: "\n", expectedVersion: -1n }), "request_id", "card", "status", "comment", "expected_version"],
    ["RotateIndexCode with a grace period of more than 90 days", () => operations.refused(rotateIndexCode, { card: key(), gracePeriod: { seconds: 7_776_001n } }), "grace_period"],
    ["RotateIndexCode with a grace period below 0", () => operations.refused(rotateIndexCode, { card: key(), gracePeriod: { seconds: -1n } }), "grace_period"],
    ["ListEntries of a page of 1,001", () => auditor.refused(listEntries, { pageSize: pageSize + 1 }), "page_size"],
    ["ListEntries with a page_token of somebody's own", () => auditor.refused(listEntries, { pageToken: cursor }), "page_token"],
    ["ListEntries with a page_token that names no moment", () => auditor.refused(listEntries, { pageToken: Buffer.from('["9999-99-99 99:99:99+00","00000000-0000-0000-0000-000000000000",1]').toString("base64url") }), "page_token"],
    ["ListEntries of an outcome that there is not", () => auditor.refused(listEntries, { filter: { outcome: 99 as AuditOutcome } }), "filter.outcome"],
    ["ListEntries of a time that ends before it starts", () => auditor.refused(listEntries, { filter: { startTime: { seconds: 2n }, endTime: { seconds: 1n } } }), "filter.end_time"],
    [
      "ListEntries with everything wrong",
      () => auditor.refused(listEntries, { filter: { principal: "me", rpc: "Detokenize", token: pan, indexCode: pan, card: "1", outcome: 99 as AuditOutcome } }),
      "filter.principal",
      "filter.rpc",
      "filter.token",
      "filter.index_code",
      "filter.card",
      "filter.outcome",
    ],
  ])("%s", async (_what, refused, ...fields) => {
    expectInvalid(await refused(), ...fields);
  });

  it.each([
    ["a cursor of somebody's own", { cursor: "here" }, "cursor"],
    ["a cursor of the right form and wrong content", { cursor }, "cursor"],
    ["a time beyond the year 9999", { startTime: { seconds: 253_402_300_800n } }, "start_time"],
    ["a time that ends before it starts", { startTime: { seconds: 2n }, endTime: { seconds: 1n } }, "end_time"],
  ])("ExportEntries with %s", async (_what, fields, field) => {
    const { refusal } = await auditor.end(exportEntries, create(exportEntries.input, fields));
    expect(refusal).toBeDefined();
    if (refusal !== undefined) expectInvalid(refusal, field);
  });
});

describe("batches", () => {
  it("take 1,000 items and answer each in its place; an empty one and one of 1,001 are refused whole", async () => {
    const tokenized = await gateway.call(batchTokenize, { requests: Array.from({ length: batchItems }, (_, i) => ({ pan: testCard(1000 + i).pan, expiry })) });
    const tokens = tokenized.results.map(({ result }) => (result.case === "response" ? result.value.token : ""));
    expect(new Set(tokens).size).toBe(batchItems);
    const revealed = await gateway.call(batchDetokenize, { items: tokens.map((each) => ({ token: each })), purpose: Purpose.PAYMENT });
    expect(revealed.results.map(({ result }) => (result.case === "response" ? result.value.pan : ""))).toEqual(tokens.map((_, i) => testCard(1000 + i).pan));
    const found = await gateway.call(batchGetCards, { cards: tokens.map((value) => ({ key: { case: "token" as const, value } })) });
    expect(found.results.filter(({ result }) => result.case === "response")).toHaveLength(batchItems);

    const many = batchItems + 1;
    expectInvalid(await gateway.refused(batchTokenize, { requests: [] }), "requests");
    expectInvalid(await gateway.refused(batchTokenize, { requests: Array.from({ length: many }, () => ({ pan, expiry })) }), "requests");
    expectInvalid(await gateway.refused(batchDetokenize, { items: [], purpose: Purpose.PAYMENT }), "items");
    expectInvalid(await gateway.refused(batchDetokenize, { items: Array.from({ length: many }, () => ({ token })), purpose: Purpose.PAYMENT }), "items");
    expectInvalid(await gateway.refused(batchGetCards, { cards: [] }), "cards");
    expectInvalid(await gateway.refused(batchGetCards, { cards: Array.from({ length: many }, () => ({ key: { case: "token" as const, value: token } })) }), "cards");
  });

  it("a page of 1,000 is the largest", async () => {
    expect((await auditor.call(listEntries, { pageSize })).entries.length).toBeLessThanOrEqual(pageSize);
    expect((await gateway.call(listTokens, { card: { key: { case: "token", value: token } }, pageSize })).nextPageToken).toBe("");
  });

  it("a message at the limit is read, one byte more is refused before it is", async () => {
    const size = (text: string): Buffer => Buffer.from(toBinary(tokenizeSchema, create(tokenizeSchema, { pan, expiry, cardholderName: text })));
    const most = "x".repeat(messageSize_bytes - size("x".repeat(messageSize_bytes - 100)).length + messageSize_bytes - 100);
    expect(size(most)).toHaveLength(messageSize_bytes);
    expectInvalid(await refusalOf(gateway.bytes(pathOf(tokenize), size(most))), "cardholder_name");
    expect(await refusalOf(gateway.bytes(pathOf(tokenize), size(`${most}x`)))).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "MESSAGE_TOO_LARGE" });
  });
});

describe("a request_id", () => {
  it("gives the same answer again, is refused with another request, and belongs to its RPC alone", async () => {
    const requestId = randomUUID();
    const request = { pan, expiry, requestId };
    const first = await gateway.call(tokenize, request);
    expect((await gateway.call(tokenize, { ...request, requestId: requestId.toUpperCase() })).token).toBe(first.token);
    for (const changed of [{ pan: testCard(4).pan }, { expiry: { year: 2036, month: 1 } }, { cardholderName: "ADA" }, { externalReference: "r" }, { options: { maxUses: 5 } }]) {
      expect(await gateway.refused(tokenize, { ...request, ...changed })).toMatchObject({ code: "ALREADY_EXISTS", reason: "REQUEST_ID_REUSED" });
    }
    expect((await gateway.call(detokenize, { token: first.token, purpose: Purpose.PAYMENT, requestId })).pan).toBe(pan);
    expect((await gateway.call(revokeToken, { token: first.token, requestId })).token?.status).toBe(TokenStatus.REVOKED);
    expect(await gateway.refused(revokeToken, { token, requestId })).toMatchObject({ code: "ALREADY_EXISTS" });
  });

  it("that stands twice in a batch with two requests fails the second alone", async () => {
    const requestId = randomUUID();
    const { results } = await gateway.call(batchTokenize, { requests: [{ pan, expiry, requestId }, { pan: testCard(4).pan, expiry, requestId }] });
    expect(results.map(({ result }) => (result.case === "error" ? result.value.code : 0))).toEqual([0, 6]);
  });
});

describe("certificates that name nobody get no connection", () => {
  const ours = spiffeId(trustDomain, demoTenant, "payment-gateway");
  const dayAgo = (days: number): Date => new Date(now.getTime() - days * day_ms);

  it.each([
    ["no certificate", () => Promise.resolve(undefined)],
    ["an expired one", () => vault.issue({ name: "x", usage: "client", uris: [ours], notBefore: dayAgo(20), notAfter: dayAgo(10) })],
    ["one of another CA", async () => await issueCertificate(await makeAuthority("other CA"), { name: "x", usage: "client", uris: [ours] })],
    ["one without a SPIFFE URI", () => vault.issue({ name: "x", usage: "client" })],
    ["one of another trust domain", () => vault.issue({ name: "x", usage: "client", uris: [spiffeId("elsewhere.example", demoTenant, "payment-gateway")] })],
  ])("%s", async (_what, certificate) => {
    expect(await api.with(await certificate()).refused(detokenize, { token, purpose: Purpose.PAYMENT })).toMatchObject({ code: "UNAVAILABLE", bytes: undefined });
  });
});

describe("callers that do not wait", () => {
  it("a deadline of 1 ms ends the call, whatever it did", async () => {
    for (let i = 0; i < 20; i += 1) {
      const result = await gateway.call(detokenize, { token, purpose: Purpose.PAYMENT }, { deadline: clock.now_ms() + 1 }).then(
        (answer) => answer.pan,
        (error: { code: number }) => error.code,
      );
      expect([pan, 4]).toContain(result);
    }
    await vi.waitFor(async () => expect(await callsInFlight()).toBe(0));
  });

  it("a client that hangs up half way leaves no call in flight, and the log tells what became of each", async () => {
    const mark = await log.mark();
    const file = join(vault.layout.certificates, "payment-gateway");
    const [ca, cert, key] = await Promise.all([readFile(join(vault.layout.certificates, "ca.pem")), readFile(`${file}.pem`), readFile(`${file}.key`)]);
    const hangUps = Array.from({ length: 10 }, async (_, i) => {
      const session = connectHttp2(`https://localhost:${vault.server().port}`, { ca, cert, key });
      session.on("error", () => undefined);
      const stream = session.request({ ":method": "POST", ":path": pathOf(detokenize), "content-type": "application/grpc", te: "trailers" });
      stream.on("error", () => undefined);
      const message = toBinary(detokenize.input, create(detokenize.input, { token, purpose: Purpose.PAYMENT }));
      const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);
      // Half of them in the middle of the message, half with all of it said and the answer still to come.
      await new Promise((resolve) => stream.write(i % 2 === 0 ? frame.subarray(0, 20) : frame, resolve));
      if (i % 2 === 1) stream.end();
      session.destroy();
    });
    await Promise.all(hangUps);
    await vi.waitFor(async () => expect(await callsInFlight()).toBe(0));
    const calls = (await log.entries(demoTenant, mark)).filter(({ kind }) => kind === "call");
    for (const entry of calls) expect(["released", "failed"]).toContain(entry.outcome);
    const withheld = (await log.entries(demoTenant, mark)).filter(({ kind }) => kind === "withheld");
    expect(calls.filter(({ outcome }) => outcome === "released")).toHaveLength(withheld.length);
  });
});

async function callsInFlight(): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${vault.server().probePort}/metrics`)).text();
  return Number(/^cardex_calls_in_flight (\d+)$/m.exec(metrics)?.[1]);
}
