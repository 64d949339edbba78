import { randomUUID } from "node:crypto";
import { PassThrough, Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { AuditOutcome, AuditService, type ExportEntriesResponse } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardStatus } from "../../gen/cardex/v1/card_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { Purpose, TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { ChainVerifier } from "../../src/audit/verify-chain.js";
import { run } from "../../src/cli/run.js";
import { Shell } from "../../src/cli/shell.js";
import { spiffeId } from "../../src/dev/certificates.js";
import { demoTenant, trustDomain } from "../../src/dev/installation.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Api, type Caller, requestOf } from "../support/api.js";
import { refusalOf } from "../support/edge-client.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { LogReader, type Mark, type ReadEntry } from "../support/log-reader.js";

const otherTenant = "other";
const guesses_max = 40;
const { tokenize, batchTokenize, detokenize, batchDetokenize } = TokenService.method;
const { getCard, setCardStatus } = CardService.method;
const { listEntries, exportEntries } = AuditService.method;

const expiry = { year: 2035, month: 1 };
const nameOf = (name: string, tenant = demoTenant): string => spiffeId(trustDomain, tenant, name);

let vault: TestInstallation;
let api: Api;
let log: LogReader;
let gateway: Caller;
let operations: Caller;
let auditor: Caller;
let cards = 0;

beforeAll(async () => {
  vault = await startInstallation({ tenants: [demoTenant, otherTenant], overrides: { limits: { tokenizationsPerMaskedPan: guesses_max } } });
  api = await Api.of(vault);
  log = new LogReader(vault.database.adminUrl);
  gateway = await api.as("payment-gateway");
  operations = await api.as("card-operations");
  auditor = await api.as("auditor");
});

afterAll(async () => {
  await log.close();
  await api.close();
  await vault.stop();
});

async function newToken(caller = gateway): Promise<{ token: string; indexCode: string }> {
  return await caller.call(tokenize, { pan: testCard((cards += 1)).pan, expiry });
}

const byToken = (token: string) => ({ key: { case: "token" as const, value: token } });

/** Runs a command as an administrator does. */
async function cardex(...words: string[]): Promise<void> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const shell = new Shell({ stdin: Readable.from([]), stdout, stderr });
  const options = ["--config", vault.server().configFile, "--database-url", vault.database.ownerUrl];
  const code = await run(shell, [...words, ...options], { version: "0.0.0", debug: false });
  expect(code, String(stderr.read())).toBe(0);
}

const kindsSince = async (mark: Mark): Promise<string[]> => (await log.entries("system", mark)).map(({ kind }) => kind);

/** What administrators did, each with who did it. */
const actsSince = async (mark: Mark): Promise<ReadEntry[]> => (await log.entries("system", mark)).filter((entry) => entry["by"] !== undefined);

/** The entry that this call left. */
async function entryOf(work: () => Promise<unknown>, tenant = demoTenant): Promise<ReadEntry | undefined> {
  const mark = await log.mark();
  await work();
  const left = await log.entries(tenant, mark);
  expect(left).toHaveLength(1);
  return left[0];
}

describe("PCI DSS 10.2.1: what is audited", () => {
  it("10.2.1.1: every access of a person or system to card data, with each resource of a batch and its own outcome", async () => {
    const { token, indexCode } = await newToken();
    const released = await entryOf(() => gateway.call(detokenize, { token, purpose: Purpose.RECURRING_PAYMENT }));
    expect(released).toMatchObject({ principal: nameOf("payment-gateway"), outcome: "released", purpose: "RECURRING_PAYMENT", resources: [{ token, outcome: "released" }] });
    const card = released?.resources?.[0]?.card;
    expect(card).toMatch(/^[0-9a-f-]{36}$/);

    const batch = await entryOf(() => gateway.call(batchDetokenize, { items: [{ token }, { token: "99000000000" }, { token: "no token" }], purpose: Purpose.PAYMENT }));
    expect(batch).toMatchObject({
      outcome: "released",
      resources: [{ token, card, outcome: "released" }, { token: "99000000000", outcome: "failed", reason: "unknown" }, { outcome: "malformed", reason: "INVALID_FIELD" }],
    });
    expect(await entryOf(() => operations.call(getCard, { card: byToken(token) }))).toMatchObject({ outcome: "done", resources: [{ token, card, outcome: "done" }] });
    const changed = await entryOf(() => operations.call(setCardStatus, { card: byToken(token), status: CardStatus.FROZEN, comment: "asked for" }));
    expect(changed).toMatchObject({ outcome: "done", new_status: "FROZEN", comment: "asked for", resources: [{ index_code: indexCode, card }] });
  });

  it("10.2.1.1: a batch of cards that go in, each with its outcome, also where none is taken", async () => {
    const good = { pan: testCard((cards += 1)).pan, expiry };
    const bad = { pan: "1", expiry };
    const mixed = await entryOf(() => gateway.call(batchTokenize, { requests: [bad, good, bad] }));
    expect(mixed).toMatchObject({ outcome: "done", resources: [{ outcome: "malformed", reason: "INVALID_FIELD" }, { outcome: "done" }, { outcome: "malformed", reason: "INVALID_FIELD" }] });
    const none = await entryOf(() => gateway.call(batchTokenize, { requests: [bad, bad] }));
    expect(none).toMatchObject({ outcome: "malformed", resources: [{ outcome: "malformed" }, { outcome: "malformed" }] });
  });

  it("10.2.1.2: administrative acts, with who did them", async () => {
    const mark = await log.mark();
    await cardex("policy", "apply", "default");
    await cardex("tenants", "add", "third");
    const left = await actsSince(mark);
    expect(left.map(({ kind }) => kind)).toEqual(["policy.applied", "tenant.added", "key.created"]);
    for (const entry of left) expect(entry["by"]).toMatch(/^.+@.+$/);
    expect(left[0]).toMatchObject({ version: expect.any(Number) as number, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string });
    expect(left[1]).toMatchObject({ tenant: "third", institution: expect.stringMatching(/^\d{4}$/) as string });
  });

  it("10.2.1.3: access to the audit log itself, with what was asked for", async () => {
    const { token } = await newToken();
    expect(await entryOf(() => auditor.call(listEntries, { filter: { token, outcome: AuditOutcome.DONE, endTime: { seconds: 4_000_000_000n } } }))).toMatchObject({
      rpc: "cardex.v1.AuditService/ListEntries",
      principal: nameOf("auditor"),
      outcome: "done",
      filter_token: token,
      filter_outcome: "done",
      to: "2096-10-02T07:06:40.000Z",
    });
    expect(await entryOf(() => auditor.end(exportEntries, create(exportEntries.input)))).toMatchObject({ rpc: "cardex.v1.AuditService/ExportEntries", outcome: "done" });
  });

  it("10.2.1.4: invalid attempts: denied, malformed, unauthenticated", async () => {
    const { token } = await newToken();
    expect(await entryOf(() => operations.refused(detokenize, { token, purpose: Purpose.PAYMENT }))).toMatchObject({ outcome: "denied", reason: "DENIED", purpose: "PAYMENT" });
    expect(await entryOf(() => gateway.refused(detokenize, { token }))).toMatchObject({ outcome: "malformed", reason: "INVALID_FIELD" });
    expect(await entryOf(() => refusalOf(gateway.bytes("/cardex.v1.TokenService/Detokenize", Buffer.from([0xff]))))).toMatchObject({ outcome: "malformed", reason: "MALFORMED_MESSAGE" });
    expect(await entryOf(() => refusalOf(gateway.bytes("/cardex.v1.TokenService/Guess", Buffer.alloc(0))))).toMatchObject({ outcome: "malformed", rpc: "unknown" });
    const nobody = await api.stranger("nobody");
    expect(await entryOf(() => nobody.refused(detokenize, { token, purpose: Purpose.PAYMENT }))).toMatchObject({ outcome: "denied", principal: nameOf("nobody") });
  });

  it("10.2.1.4: refused handshakes, and calls over a limit, as sums with their number and source", async () => {
    const mark = await log.mark();
    for (let i = 0; i < 3; i += 1) {
      const stranger = api.with(undefined);
      await stranger.refused(getCard, {});
      stranger.client.close();
    }
    const pan = testCard((cards += 1)).pan;
    for (let i = 0; i < guesses_max; i += 1) await gateway.call(tokenize, { pan, expiry });
    for (let i = 0; i < 3; i += 1) expect(await gateway.refused(tokenize, { pan, expiry })).toMatchObject({ code: "RESOURCE_EXHAUSTED" });
    const sums = async (tenant: string): Promise<ReadEntry[]> => (await log.entries(tenant, mark)).filter(({ kind }) => kind === "refusals");
    const total = (entries: readonly ReadEntry[]): number => entries.reduce((sum, entry) => sum + Number(entry["count"]), 0);
    await vi.waitFor(async () => expect(total(await sums("system"))).toBeGreaterThanOrEqual(3), { timeout: 10_000 });
    await vi.waitFor(async () => expect(total(await sums(demoTenant))).toBe(3), { timeout: 10_000 });
    for (const sum of await sums("system")) expect(sum).toMatchObject({ outcome: "refused", what: "handshake", reason: "PEER_DID_NOT_RETURN_A_CERTIFICATE" });
    for (const sum of await sums(demoTenant)) expect(sum).toMatchObject({ outcome: "refused", what: "tokenizationsPerMaskedPan", address: expect.stringMatching(/127\.0\.0\.1|::1/) as string, principal: nameOf("payment-gateway") });
    expect(await kindsSince(mark)).toContain("alert.tokenize.guessing");
  });

  it("10.2.1.5: changes of identity and permission, and none that changed nothing", async () => {
    const principal = nameOf("newcomer");
    const mark = await log.mark();
    await cardex("policy", "grant", principal, "auditor");
    await cardex("policy", "grant", principal, "auditor");
    await cardex("policy", "revoke", principal, "auditor");
    const left = await actsSince(mark);
    expect(left).toMatchObject([
      { kind: "policy.role_granted", principal, role: "auditor", tenant: demoTenant },
      { kind: "policy.role_revoked", principal, role: "auditor", tenant: demoTenant },
    ]);
  });

  it("10.2.1.6: start and stop of auditing", async () => {
    const mark = await log.mark();
    await vault.restart();
    const left = (await log.entries("system", mark)).filter(({ kind }) => kind.startsWith("audit."));
    expect(left.map(({ kind }) => kind)).toEqual(["audit.stop", "audit.start"]);
    for (const entry of left) expect(entry).toMatchObject({ host: expect.any(String) as string, pid: expect.any(Number) as number });
  });

  it("10.2.1.7: creation of system objects: keys and tenants, with what names them", async () => {
    const mark = await log.mark();
    await cardex("tenants", "add", "fourth");
    await cardex("keys", "init");
    expect(await actsSince(mark)).toMatchObject([
      { kind: "tenant.added", tenant: "fourth" },
      { kind: "key.created", label: "cardex pan fourth v1", key: expect.stringMatching(/^[0-9a-f-]{36}$/) as string, check_value: expect.stringMatching(/^[0-9a-f]+$/) as string },
    ]);
  });
});

describe("PCI DSS 10.2.2: the fields of an entry", () => {
  it("tell who, what, when, with what success, from where, and which resource, of calls that succeed and calls that fail", async () => {
    const { token } = await newToken();
    const requestId = randomUUID();
    const done = await entryOf(() => gateway.call(detokenize, { token, purpose: Purpose.REFUND, requestId }));
    const failed = await entryOf(() => gateway.refused(detokenize, { token: "99000000000", purpose: Purpose.REFUND }));
    for (const entry of [done, failed]) {
      expect(entry).toMatchObject({ kind: "call", principal: nameOf("payment-gateway"), rpc: "cardex.v1.TokenService/Detokenize", purpose: "REFUND", log: demoTenant, v: 1 });
      expect(entry?.time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      expect(entry?.address).toMatch(/^(127\.0\.0\.1|::1|::ffff:127\.0\.0\.1)$/);
      expect(entry?.["call"]).toMatch(/^[0-9a-f-]{36}$/);
    }
    expect(done).toMatchObject({ outcome: "released", request_id: requestId, resources: [{ token, card: expect.any(String) as string }] });
    expect(failed).toMatchObject({ outcome: "failed", reason: "unknown", resources: [{ token: "99000000000" }] });
  });
});

describe("ListEntries", () => {
  let mine: { token: string; indexCode: string };
  let card: string;

  beforeAll(async () => {
    mine = await newToken();
    await newToken();
    await gateway.call(detokenize, { token: mine.token, purpose: Purpose.PAYMENT });
    await operations.call(getCard, { card: { key: { case: "indexCode", value: mine.indexCode } } });
    await operations.refused(detokenize, { token: mine.token, purpose: Purpose.PAYMENT });
    const entries = await log.entries(demoTenant);
    card = entries.findLast((entry) => entry.outcome === "released")?.resources?.[0]?.card ?? "";
  });

  type Filter = NonNullable<Parameters<typeof list>[0]>;
  async function list(filter: { principal?: string; rpc?: string; outcome?: AuditOutcome; token?: string; indexCode?: string; card?: string }): Promise<ReadEntry[]> {
    const { entries } = await auditor.call(listEntries, { filter, pageSize: 1000 });
    return entries.map(({ line }) => JSON.parse(line) as ReadEntry);
  }

  it.each<[string, () => Filter, (entry: ReadEntry) => boolean]>([
    ["principal", () => ({ principal: nameOf("card-operations") }), (entry) => entry.principal === nameOf("card-operations")],
    ["RPC", () => ({ rpc: "cardex.v1.CardService/GetCard" }), (entry) => entry.rpc === "cardex.v1.CardService/GetCard"],
    ["outcome, of the call or of one of its items", () => ({ outcome: AuditOutcome.FAILED }), (entry) => entry.outcome === "failed" || entry.resources?.some((each) => each.outcome === "failed") === true],
    ["token", () => ({ token: mine.token }), (entry) => entry.resources?.some((each) => each.token === mine.token) === true],
    ["index code", () => ({ indexCode: mine.indexCode }), (entry) => entry.resources?.some((each) => each.index_code === mine.indexCode) === true],
    ["card", () => ({ card }), (entry) => entry.resources?.some((each) => each.card === card) === true],
    [
      "several at once",
      () => ({ card, principal: nameOf("payment-gateway"), outcome: AuditOutcome.RELEASED }),
      (entry) => entry.principal === nameOf("payment-gateway") && entry.outcome === "released" && entry.resources?.some((each) => each.card === card) === true,
    ],
  ])("finds by %s what is so, all of it and nothing else", async (_name, filter, holds) => {
    // Asking leaves entries of its own, which no filter of these is about.
    const all = (await log.entries(demoTenant)).filter((entry) => entry.principal !== nameOf("auditor"));
    const found = (await list(filter())).filter((entry) => entry.principal !== nameOf("auditor"));
    const ids = (entries: readonly ReadEntry[]): string[] => entries.map(({ stream, seq }) => `${stream} ${seq}`).toSorted();
    expect(ids(found)).toEqual(ids(all.filter(holds)));
    expect(found.length).toBeGreaterThan(0);
  });

  it("finds by time, the start included and the end not", async () => {
    const all = await log.entries(demoTenant);
    const times = [...new Set(all.map(({ time }) => time))].toSorted();
    const [start = "", end = ""] = [times[Math.floor(times.length / 3)], times[Math.floor((times.length * 2) / 3)]];
    const filter = { startTime: timestampFromDate(new Date(start)), endTime: timestampFromDate(new Date(end)) };
    const { entries } = await auditor.call(listEntries, { filter, pageSize: 1000 });
    const found = entries.map(({ line }) => (JSON.parse(line) as ReadEntry).time);
    expect(found.toSorted()).toEqual(all.map(({ time }) => time).filter((time) => time >= start && time < end).toSorted());
  });

  it("pages through all of them, newest first, each once, whatever is written meanwhile", async () => {
    const before = await log.entries(demoTenant);
    const seen: ReadEntry[] = [];
    let pageToken = "";
    do {
      const page = await auditor.call(listEntries, { pageSize: 17, pageToken });
      expect(page.entries.length).toBeLessThanOrEqual(17);
      seen.push(...page.entries.map(({ line }) => JSON.parse(line) as ReadEntry));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(seen.map(({ time }) => time)).toEqual(seen.map(({ time }) => time).toSorted().toReversed());
    const ids = seen.map(({ stream, seq }) => `${stream} ${seq}`);
    expect(new Set(ids).size).toBe(ids.length);
    expect(before.every(({ stream, seq }) => ids.includes(`${stream} ${seq}`))).toBe(true);
  });

  it("tells each line's SHA-256, which the stream's next entry names", async () => {
    const { entries } = await auditor.call(listEntries, { pageSize: 1000 });
    const hashes = new Map(entries.map(({ line, hash }) => [`${(JSON.parse(line) as ReadEntry).stream} ${(JSON.parse(line) as ReadEntry).seq}`, Buffer.from(hash).toString("hex")]));
    let links = 0;
    for (const { line } of entries) {
      const entry = JSON.parse(line) as ReadEntry;
      const before = hashes.get(`${entry.stream} ${entry.seq - 1}`);
      if (before === undefined) continue;
      expect(entry["prev"]).toBe(before);
      links += 1;
    }
    expect(links).toBeGreaterThan(10);
  });
});

/** All messages of an export. */
async function exported(caller: Caller, fields: { endTime?: ReturnType<typeof timestampFromDate>; cursor?: string } = {}): Promise<ExportEntriesResponse[]> {
  const { code, answers } = await caller.end(exportEntries, requestOf(exportEntries, fields));
  expect(code).toBe("OK");
  return answers as ExportEntriesResponse[];
}

describe("ExportEntries", () => {
  it("streams the canonical lines whose chains verify up to the heads that it tells", async () => {
    const messages = await exported(auditor);
    const verifier = new ChainVerifier();
    const problems = messages.flatMap(({ lines }) => lines.flatMap((line) => verifier.accept(Buffer.from(line)) ?? []));
    const heads = messages.flatMap((message) => message.heads).map(({ stream, seq, hash }) => ({ stream, seq: Number(seq), hash: Buffer.from(hash).toString("hex") }));
    expect([...problems, ...verifier.finish({ heads, fromBeginning: true, toEnd: true })]).toEqual([]);
    expect(heads.length).toBeGreaterThan(2);
    expect(messages.slice(0, -1).every((message) => message.heads.length === 0)).toBe(true);
  });

  it("gives the same lines from wherever it is taken up again", async () => {
    // Enough for several messages of one stream, besides those of the streams of each server that ran.
    for (let i = 0; i < 12; i += 1) await Promise.all(Array.from({ length: 100 }, () => operations.refused(getCard, { card: byToken("99000000000") })));
    const [now] = await log.sql<{ at: Date }>("select clock_timestamp() + interval '1 ms' as at");
    const endTime = timestampFromDate(now?.at ?? new Date(0));
    const whole = await exported(auditor, { endTime });
    const lines = whole.flatMap((message) => message.lines);
    expect(whole.length).toBeGreaterThan(5);
    expect(lines.length).toBeGreaterThan(1200);
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.integer({ min: 0, max: whole.length - 1 }), { minLength: 1, maxLength: 4 }), async (cuts) => {
        const taken: string[] = [];
        let cursor = "";
        for (const cut of [...cuts.toSorted((a, b) => a - b), Number.POSITIVE_INFINITY]) {
          for (const message of await exported(auditor, { endTime, cursor })) {
            const done = whole.findIndex((each) => each.cursor === message.cursor);
            if (done > cut) break;
            taken.push(...message.lines);
            cursor = message.cursor;
          }
        }
        expect(taken).toEqual(lines);
      }),
      { numRuns: 15 },
    );
  });

  it("shows a tenant's auditor nothing of another tenant's log, nor of the installation's", async () => {
    const other = await api.as("payment-gateway", otherTenant);
    const secret = await newToken(other);
    const theirs = await api.as("auditor", otherTenant);
    for (const [caller, tenant] of [[auditor, demoTenant], [theirs, otherTenant]] as const) {
      const lines = (await exported(caller)).flatMap((message) => message.lines);
      expect(new Set(lines.map((line) => (JSON.parse(line) as ReadEntry).log))).toEqual(new Set([tenant]));
      expect(lines.some((line) => line.includes(secret.token))).toBe(tenant === otherTenant);
      expect((await caller.call(listEntries, { filter: { token: secret.token } })).entries.length > 0).toBe(tenant === otherTenant);
    }
  });

  it("leaves every chain of every log whole", async () => {
    for (const each of [demoTenant, otherTenant, "system"]) expect(await log.problems(each)).toEqual([]);
  });
});
