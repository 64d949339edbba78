import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { AuditService } from "../gen/cardex/v1/audit_service_pb.js";
import { TokenService } from "../gen/cardex/v1/token_service_pb.js";
import { openHsm } from "../hsm/driver.js";
import { CommittedWriter } from "../src/audit/committed-writer.js";
import { RefusalSums } from "../src/audit/refusal-sums.js";
import { configTable } from "../src/config.js";
import { pathOf } from "../src/rpc/definition.js";
import { startEdge } from "./support/edge.js";
import { callUnary, connect, readRefusal, refusalOf } from "./support/edge-client.js";
import { CountingGuard, freshToken, silentObserver } from "./support/token.js";
import { defaultLimits, openGround, openRooms, testCall, tokenizeRequest, type VaultGround } from "./support/vault.js";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

const tests = ["src", "hsm", "test"].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => readFileSync(join(root, folder, name), "utf8")),
);

const limitNames = configTable()
  .filter(({ path }) => path.startsWith("limits."))
  .map(({ path }) => path.slice("limits.".length));

it.each(limitNames)("the limit %s has a test that names it", (name) => {
  expect(tests.some((text) => new RegExp(`\\b${name}\\b`).test(text))).toBe(true);
});

describe("hsmQueue", () => {
  it("is how many HSM operations wait; one more is refused at once, and taken when there is room again", async () => {
    const token = await freshToken();
    const hsm = await openHsm({ ...token.options, queue_max: 4 }, new CountingGuard(), silentObserver);
    const results = await Promise.allSettled(Array.from({ length: 5 }, () => hsm.random(16)));
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "fulfilled", "fulfilled", "rejected"]);
    expect(results[4]).toMatchObject({ reason: { reason: "LIMIT", limit: "hsmQueue" } });
    expect(await hsm.random(16)).toHaveLength(16);
    await hsm.close();
    await token.close();
  });
});

describe("limits of the store and the log", () => {
  let ground: VaultGround;

  beforeAll(async () => {
    ground = await openGround();
  });

  afterAll(() => ground.close());

  it("lookupQueue is how many lookups wait; one more is refused at once", async () => {
    const rooms = await openRooms(ground, { ...defaultLimits, lookupQueue: 4 });
    const results = await Promise.allSettled(Array.from({ length: 5 }, () => rooms.cards.getCards(testCall("CardService/GetCard"), [{ token: "99000000000" }])));
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "fulfilled", "fulfilled", "rejected"]);
    expect(results[4]).toMatchObject({ reason: { reason: "LIMIT", limit: "lookupQueue" } });
    await rooms.close();
  });

  it("writerBatch is how many calls share a commit", async () => {
    const rooms = await openRooms(ground, { ...defaultLimits, writerBatch: 3 });
    const calls = Array.from({ length: 10 }, () => testCall("CardService/GetCard"));
    await Promise.all(calls.map((call) => rooms.reveals.append(call, [{ log: "acme", fields: { kind: "call", call: call.id } }], false)));
    const commits = await ground.admin<{ entries: number }>("select count(*)::int as entries from audit_entries where line::jsonb->>'call' = any($1) group by xmin order by 1", [
      calls.map(({ id }) => id),
    ]);
    expect(commits.map(({ entries }) => entries)).toEqual([1, 3, 3, 3]);
    await rooms.close();
  });

  it("requestIdKept_hours is how long a request_id is remembered, by PostgreSQL's clock", async () => {
    const rooms = await openRooms(ground, { ...defaultLimits, requestIdKept_hours: 2 });
    const requestId = randomUUID();
    const ask = async () => (await rooms.tokenizer.tokenize(testCall("TokenService/Tokenize"), [tokenizeRequest({ requestId })]))[0];
    const age = (interval: string) => ground.admin("update requests set at = clock_timestamp() - $2::interval where request_id = $1", [requestId, interval]);
    expect(await ask()).toMatchObject({ ok: true });
    await age("1 hour 59 minutes");
    await expect(ask()).rejects.toMatchObject({ reason: "REQUEST_ID_REUSED" });
    await age("2 hours");
    expect(await ask()).toMatchObject({ ok: true });
    await rooms.close();
  });

  it("handshakesRefusedTracked is how many sources are summed apart; all others are in one sum without a source, and none is lost", async () => {
    const observer = { headMoved: () => undefined, withheld: () => undefined, notDone: () => undefined, commitResolved: () => undefined, workFailed: () => undefined };
    const writer = new CommittedWriter({ database: ground.fresh.service, stream: "notice", queue_max: 10, batch_max: 10, observer });
    const sums = new RefusalSums(writer, 2, (error) => expect.unreachable(String(error)));
    for (const source of [1, 2, 3, 4, 1]) sums.add({ log: "system", what: "handshake", address: `192.0.2.${source}` });
    await sums.close();
    await writer.close();
    const lines = await ground.admin<{ address: string; count: number }>(
      "select line::jsonb->>'address' as address, (line::jsonb->>'count')::int as count from audit_entries where log = 'system' and line::jsonb->>'kind' = 'refusals' order by 1",
    );
    expect(lines).toEqual([{ address: "", count: 2 }, { address: "192.0.2.1", count: 2 }, { address: "192.0.2.2", count: 1 }]);
  });
});

describe("limits of the edge", () => {
  it("exportDeadline_ms is the time of an export, which outlives callDeadline_ms and then ends", async () => {
    const edge = await startEdge({ callDeadline_ms: 100, exportDeadline_ms: 3000 });
    const client = connect(edge, await edge.issueFor("auditor"));
    const gateway = connect(edge, await edge.issueFor("payment-gateway"));
    const aborted = (signal: AbortSignal): Promise<never> => new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("stopped")), { once: true }));
    edge.tokens.getToken = (_request, call) => aborted(call.signal);
    edge.audit.exportEntries = async function* (_request, call) {
      yield { lines: ["first"] };
      expect(await refusalOf(callUnary(gateway, TokenService.method.getToken, {}))).toMatchObject({ code: "DEADLINE_EXCEEDED" });
      yield { lines: ["second"] };
      await aborted(call.signal);
    };
    const same = (value: Buffer): Buffer => value;
    const taken: string[] = [];
    let ended: ServiceError | undefined;
    try {
      for await (const message of client.makeServerStreamRequest(pathOf(AuditService.method.exportEntries), same, same, Buffer.alloc(0))) taken.push((message as Buffer).toString("latin1"));
    } catch (error) {
      ended = error as ServiceError;
    }
    expect(taken.map((text) => text.slice(2))).toEqual(["first", "second"]);
    expect(ended === undefined ? undefined : readRefusal(ended)).toMatchObject({ code: "DEADLINE_EXCEEDED", reason: "DEADLINE" });
    client.close();
    gateway.close();
    await edge.close();
  });

  it("handshake_ms is the time for a handshake: who says nothing is sent away, and audited", async () => {
    const edge = await startEdge({ handshake_ms: 300 });
    const socket = connectTcp(edge.server.address.port, "127.0.0.1");
    socket.on("error", () => undefined);
    await new Promise((resolve) => socket.once("close", resolve));
    await vi.waitFor(() => expect(edge.journal.refusals).toMatchObject([{ log: "system", what: "handshake", address: "127.0.0.1", reason: expect.stringContaining("TIMEOUT") as string }]));
    await edge.close();
  });
});
