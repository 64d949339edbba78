import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import { Metadata, Server, ServerCredentials, type ServerUnaryCall, type ServerWritableStream, type sendUnaryData, status } from "@grpc/grpc-js";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { AuditService, ExportEntriesResponseSchema } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { BatchTokenizeRequestSchema, BatchTokenizeResponseSchema, DetokenizeRequestSchema, DetokenizeResponseSchema, GetTokenResponseSchema, Purpose, TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { BadRequestSchema, ErrorInfoSchema, QuotaFailureSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { issueCertificate, type KeyedCertificate, makeAuthority } from "../dev/certificates.js";
import { CardexClient } from "./client.js";
import { CardexError } from "./error.js";

// A server of a few lines stands for the other end of the wire: what is tested here is the client alone.
type Answer = { readonly bytes: Uint8Array } | { readonly code: number; readonly details?: Uint8Array };

const requests = new Map<string, Buffer[]>();
const answers = new Map<string, Answer[]>();
let server: Server;
let port: number;
let pem: Awaited<ReturnType<typeof certificates>>;
let client: CardexClient;

beforeAll(async () => {
  pem = await certificates();
  server = new Server();
  const unary = (rpc: string) => ({
    handler: (call: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>) => {
      requests.set(rpc, [...(requests.get(rpc) ?? []), call.request]);
      const answer = answers.get(rpc)?.shift();
      if (answer === undefined) return;
      if ("bytes" in answer) reply(null, Buffer.from(answer.bytes));
      else reply(refusal(answer));
    },
  });
  const path = (rpc: string, stream = false) => ({
    path: `/cardex.v1.${rpc}`,
    requestStream: false,
    responseStream: stream,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  });
  const rpcs = ["TokenService/GetToken", "TokenService/Detokenize", "TokenService/BatchTokenize", "CardService/RotateIndexCode"];
  server.addService(
    Object.fromEntries([...rpcs.map((rpc) => [rpc, path(rpc)]), ["export", path("AuditService/ExportEntries", true)]]),
    {
      ...Object.fromEntries(rpcs.map((rpc) => [rpc, unary(rpc).handler])),
      export: (call: ServerWritableStream<Buffer, Buffer>) => {
        for (const answer of answers.get("AuditService/ExportEntries") ?? []) {
          if ("bytes" in answer) call.write(Buffer.from(answer.bytes));
          else {
            call.emit("error", refusal(answer));
            return;
          }
        }
        call.end();
      },
    },
  );
  port = await new Promise((resolve, reject) => {
    server.bindAsync(
      "127.0.0.1:0",
      ServerCredentials.createSsl(Buffer.from(pem.ca), [{ private_key: Buffer.from(pem.server.keyPem), cert_chain: Buffer.from(pem.server.certPem) }], true),
      (error, bound) => (error === null ? resolve(bound) : reject(error)),
    );
  });
  client = await CardexClient.connect({ address: `127.0.0.1:${port}`, ...pem, connections: 2, retries: { attempts_max: 4, backoff_ms: 1, backoff_ms_max: 4 } });
});

afterAll(() => {
  client.close();
  server.forceShutdown();
});

beforeEach(() => {
  requests.clear();
  answers.clear();
});

describe("what is repeated", () => {
  it("repeats a read while the server is away, until it answers", async () => {
    answers.set("TokenService/GetToken", [{ code: status.UNAVAILABLE }, { code: status.UNAVAILABLE }, { bytes: tokenAnswer }]);
    const answer = await client.tokens.getToken({ token: "tok_a" });
    expect(answer.token?.token).toBe("tok_a");
    expect(requests.get("TokenService/GetToken")).toHaveLength(3);
  });

  it("repeats Detokenize with the request_id of the first attempt, made up where the caller gave none", async () => {
    answers.set("TokenService/Detokenize", [{ code: status.UNAVAILABLE }, { bytes: toBinary(DetokenizeResponseSchema, create(DetokenizeResponseSchema)) }]);
    await client.tokens.detokenize({ token: "tok_a", purpose: Purpose.PAYMENT });
    const sent = (requests.get("TokenService/Detokenize") ?? []).map((bytes) => fromBinary(DetokenizeRequestSchema, bytes).requestId);
    expect(sent).toHaveLength(2);
    expect(sent[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(sent[1]).toBe(sent[0]);
  });

  it("gives each item of a batch a request_id of its own and keeps those that are there, without changing the caller's message", async () => {
    answers.set("TokenService/BatchTokenize", [{ bytes: toBinary(BatchTokenizeResponseSchema, create(BatchTokenizeResponseSchema)) }]);
    const mine = create(BatchTokenizeRequestSchema, { requests: [{ requestId: "mine" }, {}, {}] });
    await client.tokens.batchTokenize(mine);
    const [sent] = requests.get("TokenService/BatchTokenize") ?? [];
    const ids = fromBinary(BatchTokenizeRequestSchema, sent ?? Buffer.alloc(0)).requests.map((each) => each.requestId);
    expect(ids[0]).toBe("mine");
    expect(new Set(ids).size).toBe(3);
    expect(ids).not.toContain("");
    expect(mine.requests.map((each) => each.requestId)).toEqual(["mine", "", ""]);
  });

  it("waits as long as the server asks, and gives up at once where the deadline comes first", async () => {
    answers.set("TokenService/GetToken", [limitReached(3600)]);
    const error = await failureOf(client.tokens.getToken({ token: "tok_a" }));
    expect(error).toMatchObject({ reason: "LIMIT", limit: "callsInFlight", retryAfter_ms: 3_600_000 });
    expect(requests.get("TokenService/GetToken")).toHaveLength(1);
  });

  it("repeats at a limit that passes", async () => {
    answers.set("TokenService/GetToken", [limitReached(0), { bytes: tokenAnswer }]);
    await client.tokens.getToken({ token: "tok_a" });
    expect(requests.get("TokenService/GetToken")).toHaveLength(2);
  });

  it.each([status.INVALID_ARGUMENT, status.PERMISSION_DENIED, status.NOT_FOUND, status.INTERNAL, status.RESOURCE_EXHAUSTED])(
    "does not repeat what would fail again (code %i)",
    async (code) => {
      answers.set("TokenService/GetToken", [{ code }]);
      expect(await failureOf(client.tokens.getToken({ token: "tok_a" }))).toMatchObject({ code });
      expect(requests.get("TokenService/GetToken")).toHaveLength(1);
    },
  );

  it("stops after the attempts that the policy allows", async () => {
    answers.set("CardService/RotateIndexCode", Array.from({ length: 9 }, () => ({ code: status.UNAVAILABLE })));
    expect(await failureOf(client.cards.rotateIndexCode({}))).toMatchObject({ reason: "UNAVAILABLE" });
    expect(requests.get("CardService/RotateIndexCode")).toHaveLength(4);
  });
});

describe("errors", () => {
  it("tell reason and fields from the status details", async () => {
    answers.set("CardService/RotateIndexCode", [
      {
        code: status.INVALID_ARGUMENT,
        details: details(
          anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: "INVALID_FIELD", domain: "cardex" })),
          anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations: [{ field: "card", description: "is required" }] })),
        ),
      },
    ]);
    expect(await failureOf(client.cards.rotateIndexCode({}))).toMatchObject({
      reason: "INVALID_FIELD",
      codeName: "INVALID_ARGUMENT",
      violations: [{ field: "card", description: "is required" }],
    });
  });

  it("keep the code where the details can't be decoded or are another domain's", async () => {
    answers.set("TokenService/GetToken", [
      { code: status.NOT_FOUND, details: Buffer.from("not a status") },
      { code: status.NOT_FOUND, details: details(anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: "X", domain: "other" }))) },
    ]);
    expect(await failureOf(client.tokens.getToken({}))).toMatchObject({ reason: "NOT_FOUND" });
    expect(await failureOf(client.tokens.getToken({}))).toMatchObject({ reason: "NOT_FOUND" });
  });

  it("end a call at its deadline and at its signal", async () => {
    expect(await failureOf(client.tokens.getToken({}, { deadline_ms: 30 }))).toMatchObject({ reason: "DEADLINE_EXCEEDED" });
    const stop = new AbortController();
    const pending = failureOf(client.tokens.getToken({}, { signal: stop.signal }));
    stop.abort();
    expect(await pending).toMatchObject({ reason: "CANCELLED" });
    expect(await failureOf(client.tokens.getToken({}, { signal: stop.signal }))).toMatchObject({ reason: "CANCELLED" });
  });

  it("name the file that can't be read, and never its content", async () => {
    await expect(CardexClient.connect({ address: "127.0.0.1:1", ca: "/nonexistent/ca.pem", cert: pem.cert, key: pem.key })).rejects.toThrow(
      "ca: /nonexistent/ca.pem can't be read (ENOENT)",
    );
    await expect(CardexClient.connect({ address: "127.0.0.1:1", ca: pem.ca, cert: pem.cert, key: "-----BEGIN PRIVATE KEY-----\nabc" })).rejects.toThrow(
      /^ca, cert and key: must be PEM/,
    );
  });
});

describe("streams", () => {
  const part = (cursor: string): Answer => ({ bytes: toBinary(ExportEntriesResponseSchema, create(ExportEntriesResponseSchema, { cursor })) });

  it("give their messages in order, and then the error that ended them", async () => {
    answers.set("AuditService/ExportEntries", [part("1"), part("2"), { code: status.UNAVAILABLE }]);
    const seen: string[] = [];
    const read = async (): Promise<void> => {
      for await (const message of client.audit.exportEntries({})) seen.push(message.cursor);
    };
    expect(await failureOf(read())).toMatchObject({ reason: "UNAVAILABLE" });
    expect(seen).toEqual(["1", "2"]);
  });

  it("can be left half way", async () => {
    answers.set("AuditService/ExportEntries", [part("1"), part("2")]);
    for await (const message of client.audit.exportEntries({})) {
      expect(message.cursor).toBe("1");
      break;
    }
  });
});

it("has a method for every RPC of every service", () => {
  for (const [service, methods] of [
    [TokenService, client.tokens],
    [CardService, client.cards],
    [AuditService, client.audit],
  ] as const) {
    expect(Object.keys(methods).toSorted()).toEqual(service.methods.map((method) => method.localName).toSorted());
  }
});

const tokenAnswer = toBinary(GetTokenResponseSchema, create(GetTokenResponseSchema, { token: { token: "tok_a" } }));

function limitReached(delay_s: number): Answer {
  return {
    code: status.RESOURCE_EXHAUSTED,
    details: details(
      anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: "LIMIT", domain: "cardex" })),
      anyPack(QuotaFailureSchema, create(QuotaFailureSchema, { violations: [{ subject: "callsInFlight" }] })),
      anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: { seconds: BigInt(delay_s) } })),
    ),
  };
}

function details(...packed: Any[]): Uint8Array {
  return toBinary(StatusSchema, create(StatusSchema, { details: packed }));
}

function refusal(answer: { readonly code: number; readonly details?: Uint8Array }): { code: number; details: string; metadata: Metadata } {
  const metadata = new Metadata();
  if (answer.details !== undefined) metadata.set("grpc-status-details-bin", Buffer.from(answer.details));
  return { code: answer.code, details: "refused", metadata };
}

function identity(bytes: Buffer): Buffer {
  return bytes;
}

async function failureOf(call: Promise<unknown>): Promise<CardexError> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof CardexError)) throw new Error("not a CardexError", { cause: error });
  return error;
}

async function certificates(): Promise<{ ca: string; server: KeyedCertificate; cert: string; key: string }> {
  const authority = await makeAuthority("test");
  const server = await issueCertificate(authority, { name: "server", usage: "server", addresses: ["127.0.0.1"] });
  const mine = await issueCertificate(authority, { name: "client", usage: "client" });
  return { ca: authority.certPem, server, cert: mine.certPem, key: mine.keyPem };
}
