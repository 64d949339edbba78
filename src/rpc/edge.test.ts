import { connect as connectHttp2, type ClientHttp2Session, type IncomingHttpHeaders } from "node:http2";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import type { Client } from "@grpc/grpc-js";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { DetokenizeRequestSchema, Purpose, TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { HsmError, type HsmErrorClass } from "../../hsm/hsm.js";
import { startEdge, type TestEdge } from "../../test/support/edge.js";
import { callBytes, callUnary, connect, refusalOf } from "../../test/support/edge-client.js";
import { readPolicy, revokeRole } from "../access/administration.js";
import { addPolicyRow, removePolicyRow } from "../store/policy.js";
import { clock } from "../clock.js";
import type { KeyedCertificate } from "../dev/certificates.js";
import { Failure, invalidField, notFound, storeUnavailable } from "../failure.js";

const { detokenize, getToken, tokenize } = TokenService.method;
const detokenizePath = "/cardex.v1.TokenService/Detokenize";
const getTokenPath = "/cardex.v1.TokenService/GetToken";

let edge: TestEdge;
let gatewayCertificate: KeyedCertificate;
let gateway: Client;
let risk: Client;
let auditor: Client;

beforeAll(async () => {
  edge = await startEdge({ messageSize_bytes: 65_536 });
  gatewayCertificate = await edge.issueFor("payment-gateway");
  gateway = connect(edge, gatewayCertificate);
  risk = connect(edge, await edge.issueFor("risk-system"));
  auditor = connect(edge, await edge.issueFor("auditor"));
});

afterAll(async () => {
  for (const client of [gateway, risk, auditor]) client.close();
  await edge.close();
});

beforeEach(() => {
  edge.journal.clear();
  edge.alerts.length = 0;
  edge.tokens = {
    getToken: () => Promise.resolve({ token: { token: "tok_x" } }),
    detokenize: (_request, call) => {
      call.resources.push({ token: "tok_x", outcome: "released" });
      call.audited = true;
      return Promise.resolve({ pan: "4111111111111111" });
    },
  };
  edge.audit = {};
});

/** The one entry that the call left. */
function entry(): (typeof edge.journal.entries)[number] | undefined {
  expect(edge.journal.entries).toHaveLength(1);
  return edge.journal.entries[0];
}

describe("a call that succeeds", () => {
  test("is audited before its answer is there, where its handler did not audit it", async () => {
    const answer = await callUnary(gateway, getToken, { token: "tok_x" });
    expect(answer.token?.token).toBe("tok_x");
    expect(entry()).toMatchObject({ rpc: "cardex.v1.TokenService/GetToken", outcome: "done", log: "acme", purpose: undefined });
  });

  test("is not audited twice", async () => {
    const answer = await callUnary(gateway, detokenize, { token: "tok_x", purpose: Purpose.PAYMENT });
    expect(answer.pan).toBe("4111111111111111");
    expect(edge.journal.entries).toEqual([]);
  });

  test("tells its handler who calls, for what, from where, and what the role sees", async () => {
    let seen: unknown;
    edge.tokens.detokenize = (_request, call) => {
      seen = { ...call.principal, rpc: call.rpc, address: call.address, purpose: call.purpose, view: call.view, scope: call.mayUseScope("shop") };
      return Promise.resolve({});
    };
    await callUnary(gateway, detokenize, { token: "tok_x", purpose: Purpose.RECURRING_PAYMENT });
    expect(seen).toEqual({
      id: "spiffe://cardex.test/tenant/acme/payment-gateway",
      tenant: "acme",
      rpc: "cardex.v1.TokenService/Detokenize",
      address: "127.0.0.1",
      purpose: "RECURRING_PAYMENT",
      view: "masked",
      scope: true,
    });
  });

  test("is UNAVAILABLE without an answer when its entry can't be committed", async () => {
    edge.journal.beforeRecord = () => Promise.reject(new Error("connection lost"));
    expect(await refusalOf(callUnary(gateway, getToken, { token: "tok_x" }))).toMatchObject({ code: "UNAVAILABLE", reason: "STORE_UNAVAILABLE" });
  });

  test("is refused with the limit's name, and counted, when too many entries wait; so is one that is denied", async () => {
    const full = { code: "RESOURCE_EXHAUSTED", reason: "LIMIT", details: [{}, { violations: [{ subject: "writerQueue" }] }, {}] };
    edge.journal.beforeRecord = () => Promise.reject(new Failure("LIMIT", "too much work waiting; try again", { limit: "writerQueue", retryAfter_ms: 100 }));
    expect(await refusalOf(callUnary(gateway, getToken, { token: "tok_x" }))).toMatchObject(full);
    expect(await refusalOf(callUnary(risk, detokenize, { token: "tok_x", purpose: Purpose.PAYMENT }))).toMatchObject(full);
    expect(edge.journal.entries).toEqual([]);
    expect(edge.journal.refusals).toMatchObject(
      ["payment-gateway", "risk-system"].map((role) => ({ log: "acme", what: "writerQueue", address: "127.0.0.1", principal: `spiffe://cardex.test/tenant/acme/${role}` })),
    );
  });
});

describe("access", () => {
  test("is denied before anything is looked up, and audited", async () => {
    edge.tokens.detokenize = () => Promise.reject(new Error("must not be reached"));
    const refusal = await refusalOf(callUnary(risk, detokenize, { token: "tok_x", purpose: Purpose.PAYMENT }));
    expect(refusal).toMatchObject({ code: "PERMISSION_DENIED", reason: "DENIED" });
    expect(entry()).toMatchObject({ rpc: "cardex.v1.TokenService/Detokenize", outcome: "denied", purpose: "PAYMENT" });
  });

  test.each([
    ["none", Purpose.UNSPECIFIED],
    ["one that nobody knows", 99],
  ])("needs a purpose, and %s is a field error only for those who may have one", async (_name, purpose) => {
    expect(await refusalOf(callUnary(gateway, detokenize, { token: "tok_x", purpose }))).toMatchObject({
      code: "INVALID_ARGUMENT",
      reason: "INVALID_FIELD",
      details: [{}, { fieldViolations: [{ field: "purpose" }] }],
    });
    expect(edge.journal.entries.at(-1)).toMatchObject({ outcome: "malformed" });
    expect(await refusalOf(callUnary(risk, detokenize, { token: "tok_x", purpose }))).toMatchObject({ code: "PERMISSION_DENIED" });
    expect(edge.journal.entries.at(-1)).toMatchObject({ outcome: "denied" });
  });

  test("of a valid certificate that no role names is UNAUTHENTICATED, and audited", async () => {
    const nobody = connect(edge, await edge.issue({}));
    expect(await refusalOf(callUnary(nobody, getToken, {}))).toMatchObject({ code: "UNAUTHENTICATED", reason: "UNKNOWN_PRINCIPAL" });
    expect(entry()).toMatchObject({ outcome: "denied", principal: "spiffe://cardex.test/tenant/acme/nobody", log: "acme" });
    nobody.close();
  });

  test("of a principal of a tenant that nobody knows is audited in the installation's own log", async () => {
    const stranger = connect(edge, await edge.issue({ uris: ["spiffe://cardex.test/tenant/nowhere/x"] }));
    expect(await refusalOf(callUnary(stranger, getToken, {}))).toMatchObject({ code: "UNAUTHENTICATED" });
    expect(entry()).toMatchObject({ outcome: "denied", log: "system" });
    stranger.close();
  });

  test("ends on a live connection as soon as its certificate is revoked", async () => {
    const certificate = await edge.issue({ uris: ["spiffe://cardex.test/tenant/acme/payment-gateway"] });
    const client = connect(edge, certificate);
    await callUnary(client, getToken, {});
    await edge.revoke([certificate.serial]);
    expect(await refusalOf(callUnary(client, getToken, {}))).toMatchObject({ code: "UNAUTHENTICATED" });
    expect(edge.journal.entries.at(-1)).toMatchObject({ outcome: "denied", reason: "CERT_REVOKED" });
    await callUnary(gateway, getToken, {});
    await edge.revoke([]);
    client.close();
  });

  test("is decided again when the policy moved while the call was under way", async () => {
    const certificate = await edge.issueFor("card-operations");
    const client = connect(edge, certificate);
    edge.tokens.getToken = async (_request, call) => {
      await revokeRole(edge.owner, call.principal.id, "acme", "card-operations");
      await call.decideAgain(call.policyVersion + 1);
      return {};
    };
    expect(await refusalOf(callUnary(client, getToken, {}))).toMatchObject({ code: "UNAUTHENTICATED" });
    expect(entry()).toMatchObject({ outcome: "denied" });
    client.close();
  });
});

test("tokens of a scope are the caller's for the purposes that the policy gives, and no others", async () => {
  const rule = ["spiffe://cardex.test/tenant/acme/payment-gateway", "acme", "scope", "m1", "MIGRATION", "deny"];
  await addPolicyRow(edge.owner, { ptype: "p", values: rule });
  await edge.policy.refresh((await readPolicy(edge.owner)).version);
  const seen: boolean[] = [];
  edge.tokens.detokenize = (_request, call) => {
    seen.push(call.mayUseScope("m1"));
    return Promise.resolve({});
  };
  for (const purpose of [Purpose.MIGRATION, Purpose.PAYMENT]) await callUnary(gateway, detokenize, { token: "tok_x", purpose });
  expect(seen).toEqual([false, true]);
  await removePolicyRow(edge.owner, { ptype: "p", values: rule });
  await edge.policy.refresh((await readPolicy(edge.owner)).version);
});

describe("what the role sees of a card", () => {
  test("is what it may see when the answer leaves: one made for another view does not", async () => {
    const client = connect(edge, await edge.issueFor("payment-gateway"));
    const rule = ["spiffe://cardex.test/tenant/acme/payment-gateway", "acme", "view", "masked", "*", "deny"];
    edge.tokens.tokenize = (_request, call) => Promise.resolve(call.view === "masked" ? { masked: { bin: "41111111" } } : {});
    const ask = () => callUnary(client, tokenize, {});
    expect((await ask()).masked?.bin).toBe("41111111");
    // The policy moves while the entry is committed, which finds it out and decides again.
    edge.journal.beforeRecord = async (call) => {
      await addPolicyRow(edge.owner, { ptype: "p", values: rule });
      await call.decideAgain(call.policyVersion + 1);
    };
    expect(await refusalOf(ask())).toMatchObject({ code: "UNAVAILABLE", reason: "STORE_UNAVAILABLE", text: "the policy changed; try again" });
    edge.journal.clear();
    expect((await ask()).masked).toBeUndefined();
    await removePolicyRow(edge.owner, { ptype: "p", values: rule });
    await edge.policy.refresh((await readPolicy(edge.owner)).version);
    client.close();
  });
});

describe("what is malformed is audited, also where grpc-js would answer by itself:", () => {
  test("bytes that are no message", async () => {
    expect(await refusalOf(callBytes(gateway, detokenizePath, Buffer.from([0x0a, 0xff])))).toMatchObject({ code: "INVALID_ARGUMENT", reason: "MALFORMED_MESSAGE" });
    expect(entry()).toMatchObject({ rpc: "cardex.v1.TokenService/Detokenize", outcome: "malformed" });
  });

  test("a message over the limit, and none at the limit", async () => {
    expect(await refusalOf(callBytes(gateway, getTokenPath, Buffer.alloc(65_537)))).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "MESSAGE_TOO_LARGE" });
    expect(entry()).toMatchObject({ outcome: "malformed", reason: "MESSAGE_TOO_LARGE" });
    expect(await refusalOf(callBytes(gateway, getTokenPath, Buffer.alloc(65_536)))).toMatchObject({ reason: "MALFORMED_MESSAGE" });
  });

  test("a method that there is not, without its name", async () => {
    expect(await refusalOf(callBytes(gateway, "/cardex.v1.TokenService/4111111111111111", Buffer.alloc(0)))).toMatchObject({
      code: "UNIMPLEMENTED",
      reason: "UNKNOWN_METHOD",
      text: "no such method",
    });
    expect(entry()).toMatchObject({ rpc: "unknown", outcome: "malformed" });
    expect(await refusalOf(callUnary(gateway, CardService.method.getCard, {}))).toMatchObject({ code: "UNIMPLEMENTED" });
  });

  describe("raw HTTP/2 requests", () => {
    let session: ClientHttp2Session;
    beforeEach(() => {
      session = connectHttp2(`https://127.0.0.1:${edge.server.address.port}`, {
        ca: edge.authority.certPem,
        cert: gatewayCertificate.certPem,
        key: gatewayCertificate.keyPem,
      });
    });
    afterEach(() => {
      session.destroy();
    });

    async function request(headers: IncomingHttpHeaders, body: Buffer): Promise<IncomingHttpHeaders> {
      return await new Promise((resolve, reject) => {
        const stream = session.request({ ":method": "POST", ":path": getTokenPath, "content-type": "application/grpc", te: "trailers", ...headers });
        stream.on("response", resolve);
        stream.on("error", reject);
        stream.end(body);
        stream.resume();
      });
    }

    const frame = (flag: number, message: Buffer): Buffer => Buffer.concat([Buffer.from([flag, 0, 0, 0, message.length]), message]);

    test.each([
      ["a compression that nobody knows", { "grpc-encoding": "zork" }, frame(1, Buffer.from("x"))],
      ["a compression that its bytes are not of", { "grpc-encoding": "gzip" }, frame(1, Buffer.from("x"))],
      ["a deadline that is none", { "grpc-timeout": "soon" }, frame(0, Buffer.alloc(0))],
      ["no message", {}, Buffer.alloc(0)],
      ["two messages", {}, Buffer.concat([frame(0, Buffer.alloc(0)), frame(0, Buffer.alloc(0))])],
    ])("%s", async (_name, headers, body) => {
      const answer = await request(headers, body);
      expect(answer["grpc-status"]).toBe("3");
      expect(answer["grpc-message"]).not.toMatch(/zork|soon/);
      expect(entry()).toMatchObject({ rpc: "cardex.v1.TokenService/GetToken", outcome: "malformed", reason: "MALFORMED_MESSAGE" });
    });

    test("a small message that is large once decompressed", async () => {
      const answer = await request({ "grpc-encoding": "gzip" }, frame(1, gzipSync(Buffer.alloc(70_000))));
      expect(answer["grpc-status"]).toBe("8");
      expect(entry()).toMatchObject({ outcome: "malformed", reason: "MESSAGE_TOO_LARGE" });
    });

    test("a request that is no gRPC at all", async () => {
      expect((await request({ "content-type": "text/html" }, Buffer.alloc(0)))[":status"]).toBe(415);
      expect(edge.journal.refusals).toMatchObject([{ what: "not gRPC", log: "system" }]);
    });

    test("a caller that hangs up before its message is complete", async () => {
      const stream = session.request({ ":method": "POST", ":path": getTokenPath, "content-type": "application/grpc", te: "trailers" });
      stream.on("error", () => {});
      stream.write(Buffer.from([0, 0, 0, 0, 100, 1, 2, 3]));
      await vi.waitFor(() => expect(stream.pending).toBe(false));
      session.destroy();
      await vi.waitFor(() => expect(entry()).toMatchObject({ outcome: "failed", reason: "CANCELLED" }));
    });
  });
});

describe("a caller that does not wait", () => {
  test("is told DEADLINE_EXCEEDED after 1 ms, and what its handler released by then is followed by 'withheld'", async () => {
    let release = (): void => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    edge.tokens.detokenize = async (_request, call) => {
      await released;
      expect(call.signal.aborted).toBe(true);
      call.resources.push({ token: "tok_x", outcome: "released" });
      call.audited = true;
      return { pan: "4111111111111111" };
    };
    const refusal = await refusalOf(callUnary(gateway, detokenize, { token: "tok_x", purpose: Purpose.PAYMENT }, { deadline: new Date(clock.now_ms() + 1) }));
    expect(refusal.code).toBe("DEADLINE_EXCEEDED");
    release();
    // Whether the call had come so far as its handler within the 1 ms, or not.
    await vi.waitFor(() => expect(edge.journal.withheldCalls.length + edge.journal.entries.length).toBe(1));
  });

  test("that hangs up half way gets no PAN, and the log says so", async () => {
    let reached = (): void => {};
    const underWay = new Promise<void>((resolve) => (reached = resolve));
    edge.tokens.detokenize = async (_request, call) => {
      reached();
      await new Promise<void>((resolve) => call.signal.addEventListener("abort", () => resolve(), { once: true }));
      call.resources.push({ token: "tok_x", outcome: "released" });
      call.audited = true;
      return { pan: "4111111111111111" };
    };
    const same = (value: Buffer): Buffer => value;
    const request = Buffer.from(toBinary(DetokenizeRequestSchema, create(DetokenizeRequestSchema, { token: "tok_x", purpose: Purpose.PAYMENT })));
    const answered: unknown[] = [];
    const call = gateway.makeUnaryRequest(detokenizePath, same, same, request, (_error, answer) => answered.push(answer));
    await underWay;
    call.cancel();
    await vi.waitFor(() => expect(edge.journal.withheldCalls).toHaveLength(1));
    expect(edge.journal.entries).toEqual([]);
    expect(answered).toEqual([undefined]);
  });

  test("whose handler stops for it is audited as failed, with the reason", async () => {
    edge.tokens.getToken = async (_request, call) => {
      await new Promise<void>((_resolve, reject) => call.signal.addEventListener("abort", () => reject(new Error("stopped")), { once: true }));
      return {};
    };
    const soon = new Date(clock.now_ms() + 100);
    expect((await refusalOf(callUnary(gateway, getToken, {}, { deadline: soon }))).code).toBe("DEADLINE_EXCEEDED");
    await vi.waitFor(() => expect(entry()).toMatchObject({ outcome: "failed" }));
  });
});

describe("the error table", () => {
  test.each([
    ["INVALID_FIELD", invalidField("options.ttl", "must be whole seconds"), "INVALID_ARGUMENT", "malformed", [{ fieldViolations: [{ field: "options.ttl", description: "must be whole seconds" }] }]],
    ["NOT_FOUND", notFound("revoked"), "NOT_FOUND", "failed", []],
    ["REQUEST_ID_REUSED", new Failure("REQUEST_ID_REUSED", "used"), "ALREADY_EXISTS", "failed", []],
    ["CARD_STATUS", new Failure("CARD_STATUS", "the card is lost"), "FAILED_PRECONDITION", "failed", [{ violations: [{ type: "CARD_STATUS", subject: "card" }] }]],
    ["STATUS_TRANSITION", new Failure("STATUS_TRANSITION", "no"), "FAILED_PRECONDITION", "failed", [{ violations: [{ type: "STATUS_TRANSITION", subject: "card" }] }]],
    ["KEY_STATE", new Failure("KEY_STATE", "no"), "FAILED_PRECONDITION", "failed", [{ violations: [{ type: "KEY_STATE", subject: "key" }] }]],
    ["VERSION_MISMATCH", new Failure("VERSION_MISMATCH", "read again"), "ABORTED", "failed", []],
    ["HSM_UNAVAILABLE", new Failure("HSM_UNAVAILABLE", "away"), "UNAVAILABLE", "failed", [{ retryDelay: { seconds: 1n } }]],
    ["STORE_UNAVAILABLE", storeUnavailable(new Error("connection to 10.0.0.1 lost")), "UNAVAILABLE", "failed", [{ retryDelay: { seconds: 1n } }]],
    ["INTEGRITY", new Failure("INTEGRITY", "does not verify"), "DATA_LOSS", "failed", []],
    ["DENIED", new Failure("DENIED", "no"), "PERMISSION_DENIED", "denied", []],
    ["INTERNAL", new Error("PAN 4111111111111111 at /srv/secret.ts:1"), "INTERNAL", "failed", []],
  ])("%s", async (reason, error, code, outcome, details) => {
    edge.tokens.getToken = () => Promise.reject(error);
    const refusal = await refusalOf(callUnary(gateway, getToken, {}));
    expect(refusal).toMatchObject({ code, reason, details: [{ reason, domain: "cardex" }, ...details] });
    expect(refusal.details).toHaveLength(details.length + 1);
    expect(refusal.text).not.toMatch(/4111|secret|10\.0\.0/);
    expect(entry()).toMatchObject({ outcome });
    expect(edge.alerts).toEqual(reason === "INTEGRITY" ? ["integrity"] : []);
  });

  test("a limit is RESOURCE_EXHAUSTED at once, with its name and when to try again, and audited as a sum only", async () => {
    edge.tokens.tokenize = () => Promise.reject(new Failure("LIMIT", "too many", { limit: "tokenizationsPerMaskedPan", retryAfter_ms: 1500 }));
    expect(await refusalOf(callUnary(gateway, tokenize, {}))).toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      reason: "LIMIT",
      details: [{}, { violations: [{ subject: "tokenizationsPerMaskedPan" }] }, { retryDelay: { seconds: 1n, nanos: 500_000_000 } }],
    });
    expect(edge.journal.entries).toEqual([]);
    expect(edge.journal.refusals).toMatchObject([{ log: "acme", what: "tokenizationsPerMaskedPan", address: "127.0.0.1" }]);
  });

  test.each<[HsmErrorClass, string, string]>([
    ["operation", "INTERNAL", "INTERNAL"],
    ["session", "UNAVAILABLE", "HSM_UNAVAILABLE"],
    ["device", "UNAVAILABLE", "HSM_UNAVAILABLE"],
    ["login", "UNAVAILABLE", "HSM_UNAVAILABLE"],
    ["timeout", "UNAVAILABLE", "HSM_UNAVAILABLE"],
    ["integrity", "DATA_LOSS", "INTEGRITY"],
    ["key", "DATA_LOSS", "INTEGRITY"],
  ])("an HSM error of class %s is %s", async (errorClass, code, reason) => {
    edge.tokens.getToken = () => Promise.reject(new HsmError(errorClass, "C_Decrypt: CKR_GENERAL_ERROR"));
    const refusal = await refusalOf(callUnary(gateway, getToken, {}));
    expect(refusal).toMatchObject({ code, reason });
    expect(refusal.text).not.toContain("CKR");
  });

  test("NOT_FOUND has the same bytes whatever the reason inside", async () => {
    const seen = new Set<string | undefined>();
    for (const error of [notFound("unknown"), notFound("revoked"), new Failure("NOT_FOUND", "another text", { retryAfter_ms: 5 })]) {
      edge.tokens.getToken = () => Promise.reject(error);
      const { text, bytes } = await refusalOf(callUnary(gateway, getToken, {}));
      seen.add(`${text} ${bytes?.toString("hex")}`);
    }
    expect(seen.size).toBe(1);
  });
});

describe("a stream", () => {
  const path = "/cardex.v1.AuditService/ExportEntries";
  const same = (value: Buffer): Buffer => value;

  test("is audited before its first message, and pulled only as fast as it is taken", async () => {
    let produced = 0;
    edge.audit.exportEntries = async function* () {
      for (; produced < 1000; produced += 1) {
        await new Promise(setImmediate);
        yield { lines: ["x".repeat(60_000)] };
      }
    };
    const stream = auditor.makeServerStreamRequest(path, same, same, Buffer.alloc(0));
    stream.on("error", () => {});
    await new Promise((resolve) => stream.once("data", resolve));
    expect(entry()).toMatchObject({ rpc: "cardex.v1.AuditService/ExportEntries", outcome: "done" });
    stream.pause();
    await vi.waitFor(() => expect(produced).toBeGreaterThan(0));
    let before = -1;
    // Until production stands still, which it does only where nobody takes more.
    await vi.waitFor(
      () => {
        const still = produced === before;
        before = produced;
        expect(still).toBe(true);
      },
      { interval: 200, timeout: 10_000 },
    );
    expect(produced).toBeLessThan(1000);
    stream.cancel();
  });

  test("lets go of its handler when the caller goes", async () => {
    let finished = false;
    edge.audit.exportEntries = async function* () {
      try {
        for (;;) {
          await new Promise(setImmediate);
          yield { lines: ["x"] };
        }
      } finally {
        finished = true;
      }
    };
    const stream = auditor.makeServerStreamRequest(path, same, same, Buffer.alloc(0));
    stream.on("error", () => {});
    await new Promise((resolve) => stream.once("data", resolve));
    stream.cancel();
    await vi.waitFor(() => expect(finished).toBe(true));
  });

  test("ends when the policy no longer allows it", async () => {
    const client = connect(edge, await edge.issue({ uris: ["spiffe://cardex.test/tenant/acme/temp"] }));
    await edge.owner.query({ name: "temp", text: "INSERT INTO policy_rules (ptype, v0, v1, v2) VALUES ('g', 'spiffe://cardex.test/tenant/acme/temp', 'auditor', 'acme')" });
    await vi.waitFor(() => expect(edge.policy.knows({ id: "spiffe://cardex.test/tenant/acme/temp", tenant: "acme" })).toBe(true));
    edge.audit.exportEntries = async function* (_request, call) {
      yield { lines: ["first"] };
      await new Promise<void>((resolve) => call.signal.addEventListener("abort", () => resolve(), { once: true }));
    };
    const stream = client.makeServerStreamRequest(path, same, same, Buffer.alloc(0));
    const ended = new Promise<{ code: number }>((resolve) => stream.once("error", (error) => resolve(error as unknown as { code: number })));
    await new Promise((resolve) => stream.once("data", resolve));
    await revokeRole(edge.owner, "spiffe://cardex.test/tenant/acme/temp", "acme", "auditor");
    expect((await ended).code).toBe(16);
    client.close();
  });

  test("that fails before its first message is audited as failed", async () => {
    edge.audit.exportEntries = async function* (request) {
      await Promise.resolve();
      if (request.cursor === "") throw invalidField("cursor", "is not one of ours");
      yield {};
    };
    const stream = auditor.makeServerStreamRequest(path, same, same, Buffer.alloc(0));
    const error = await new Promise<{ code: number }>((resolve) => stream.once("error", (each) => resolve(each as unknown as { code: number })));
    expect(error.code).toBe(3);
    expect(entry()).toMatchObject({ outcome: "malformed" });
  });
});

describe("health and reflection", () => {
  const sameBytes = (value: Buffer): Buffer => value;

  test("answer every known principal, and are audited", async () => {
    expect((await callBytes(risk, "/grpc.health.v1.Health/Check", Buffer.alloc(0))).toString("hex")).toBe("0801");
    expect(entry()).toMatchObject({ rpc: "grpc.health.v1.Health/Check", outcome: "done" });
    expect((await refusalOf(callBytes(risk, "/grpc.health.v1.Health/Check", Buffer.from([0x0a, 1, 0x78])))).code).toBe("NOT_FOUND");
  });

  test("answer nobody else", async () => {
    const nobody = connect(edge, await edge.issue({}));
    expect((await refusalOf(callBytes(nobody, "/grpc.health.v1.Health/Check", Buffer.alloc(0)))).code).toBe("UNAUTHENTICATED");
    nobody.close();
  });

  test("name the services of this server", async () => {
    const stream = risk.makeBidiStreamRequest("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", sameBytes, sameBytes);
    // ServerReflectionRequest.list_services (7), ServerReflectionRequest.file_containing_symbol (4)
    stream.write(Buffer.concat([Buffer.from([0x3a, 1]), Buffer.from("*")]));
    const listed = await new Promise<Buffer>((resolve) => stream.once("data", resolve));
    expect(listed.toString("latin1")).toContain("cardex.v1.TokenService");
    const symbol = "cardex.v1.AuditService";
    stream.write(Buffer.concat([Buffer.from([0x22, symbol.length]), Buffer.from(symbol)]));
    const found = await new Promise<Buffer>((resolve) => stream.once("data", resolve));
    expect(found.toString("latin1")).toContain("cardex/v1/audit_service.proto");
    stream.end();
    expect(entry()).toMatchObject({ rpc: "grpc.reflection.v1.ServerReflection/ServerReflectionInfo", outcome: "done" });
  });
});

test("metrics count calls by RPC and code, and nothing of what a caller sent", async () => {
  await callUnary(gateway, getToken, { token: "tok_canary" });
  await refusalOf(callBytes(gateway, "/cardex.v1.TokenService/Canary", Buffer.alloc(0)));
  const text = await edge.metrics.text();
  expect(text).toMatch(/cardex_calls_total\{rpc="cardex.v1.TokenService\/GetToken",code="OK"\} \d+/);
  expect(text).toMatch(/cardex_calls_total\{rpc="unknown",code="UNIMPLEMENTED"\} \d+/);
  expect(text).not.toMatch(/canary|acme/i);
});

test("nothing is left in flight once all calls are over", async () => {
  await vi.waitFor(async () => expect(await edge.metrics.text()).toContain("cardex_calls_in_flight 0"));
  expect(AuditService.methods).toHaveLength(2);
});
