import { create, type DescField, type DescMessage, type DescMethod, type DescService, type Message } from "@bufbuild/protobuf";
import { reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { Purpose, PurposeSchema, TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { spiffeId } from "../../src/dev/certificates.js";
import { demoTenant, type Role, roles, trustDomain } from "../../src/dev/installation.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Api, type Caller } from "../support/api.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { LogReader } from "../support/log-reader.js";

const otherTenant = "other";
const services: readonly DescService[] = [TokenService, CardService, AuditService];
const methods = services.flatMap((service) => service.methods);

/** Who may call what. An RPC without a row fails below. */
const allowed: Readonly<Record<string, readonly Role[]>> = {
  "TokenService/Tokenize": ["payment-gateway"],
  "TokenService/BatchTokenize": ["payment-gateway"],
  "TokenService/Detokenize": ["payment-gateway"],
  "TokenService/BatchDetokenize": ["payment-gateway"],
  "TokenService/GetToken": ["payment-gateway", "card-operations"],
  "TokenService/ListTokens": ["payment-gateway", "card-operations"],
  "TokenService/RevokeToken": ["payment-gateway", "card-operations"],
  "CardService/GetCard": ["payment-gateway", "risk-system", "card-operations"],
  "CardService/BatchGetCards": ["payment-gateway", "risk-system", "card-operations"],
  "CardService/SetCardStatus": ["card-operations"],
  "CardService/RotateIndexCode": ["card-operations"],
  "AuditService/ListEntries": ["auditor"],
  "AuditService/ExportEntries": ["auditor"],
};

const rowOf = (method: DescMethod): string => `${method.parent.name}/${method.name}`;
const rpcOf = (method: DescMethod): string => `${method.parent.typeName}/${method.name}`;

let vault: TestInstallation;
let api: Api;
let log: LogReader;
let token: string;
const callers = new Map<Role, Caller>();

beforeAll(async () => {
  vault = await startInstallation({ tenants: [demoTenant, otherTenant] });
  api = await Api.of(vault);
  log = new LogReader(vault.database.adminUrl);
  for (const role of roles) callers.set(role, await api.as(role));
  token = (await callerOf("payment-gateway").call(TokenService.method.tokenize, { pan: testCard(0).pan, expiry: { year: 2035, month: 1 } })).token;
});

afterAll(async () => {
  await log.close();
  await api.close();
  await vault.stop();
});

function callerOf(role: Role): Caller {
  const caller = callers.get(role);
  if (caller === undefined) throw new Error(`there is no caller for ${role}`);
  return caller;
}

/** A request of any RPC that names this token wherever a token can stand, and states a purpose where one is asked for. */
function requestNaming(schema: DescMessage, named: string): Message {
  const message = reflect(schema);
  for (const field of schema.fields) fill(message, field, named);
  return message.message;
}

function fill(message: ReflectMessage, field: DescField, named: string): void {
  if (field.oneof !== undefined && field.name !== "token") return;
  if (field.fieldKind === "scalar" && field.name === "token") message.set(field, named);
  else if (field.fieldKind === "enum" && field.enum.typeName === PurposeSchema.typeName) message.set(field, Purpose.PAYMENT);
  else if (field.fieldKind === "message" && field.message.typeName.startsWith("cardex.")) message.set(field, reflect(field.message, requestNaming(field.message, named)));
  else if (field.fieldKind === "list" && field.listKind === "message") message.get(field).add(reflect(field.message, requestNaming(field.message, named)));
}

/** Requests that a caller without the right could tell something from: nothing in it, a token that exists, one that does not. */
function probes(method: DescMethod): Message[] {
  return [create(method.input), requestNaming(method.input, token), requestNaming(method.input, "tok_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")];
}

describe("PCI DSS 7.2: every RPC has its roles, and all others are denied", () => {
  it("the table knows every RPC that the server tells of by reflection, and no other", async () => {
    const same = (value: Buffer): Buffer => value;
    const stream = callerOf("operator").client.makeBidiStreamRequest("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", same, same);
    // ServerReflectionRequest.list_services (7)
    stream.write(Buffer.from([0x3a, 1, 0x2a]));
    const listed = await new Promise<Buffer>((resolve) => stream.once("data", resolve));
    stream.end();
    const served = listed.toString("latin1").match(/cardex\.v1\.[A-Za-z]+Service/g) ?? [];
    expect(new Set(served)).toEqual(new Set(services.map((service) => service.typeName)));
    expect(Object.keys(allowed).toSorted()).toEqual(methods.map(rowOf).toSorted());
  });

  for (const method of methods) {
    const row = rowOf(method);
    const may = allowed[row] ?? [];
    for (const role of roles.filter((each) => may.includes(each))) {
      it(`${row} is open to ${role}`, async () => {
        const ended = await callerOf(role).end(method, requestNaming(method.input, "tok_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
        expect(["OK", "INVALID_ARGUMENT", "NOT_FOUND"]).toContain(ended.code);
      });
    }
    for (const role of roles.filter((each) => !may.includes(each))) {
      it(`${row} is denied to ${role} in the same bytes whether or not the token exists, and each attempt is audited`, async () => {
        const mark = await log.mark();
        const seen = new Set<string>();
        for (const request of probes(method)) {
          const { refusal, answers } = await callerOf(role).end(method, request);
          expect(refusal).toMatchObject({ code: "PERMISSION_DENIED", reason: "DENIED" });
          expect(answers).toEqual([]);
          seen.add(`${refusal?.text} ${refusal?.bytes?.toString("hex")}`);
        }
        expect(seen.size).toBe(1);
        const left = await log.entries(demoTenant, mark);
        expect(left).toHaveLength(3);
        // Nothing was looked up: no entry has a card.
        for (const entry of left) expect(entry).toMatchObject({ kind: "call", rpc: rpcOf(method), principal: spiffeId(trustDomain, demoTenant, role), outcome: "denied", reason: "DENIED" });
        expect(JSON.stringify(left)).not.toContain('"card"');
      });
    }
  }

  it("Detokenize is denied to every role but the gateway for every purpose", async () => {
    for (const role of roles.filter((each) => each !== "payment-gateway")) {
      for (const { number } of PurposeSchema.values) {
        expect(await callerOf(role).refused(TokenService.method.detokenize, { token, purpose: number })).toMatchObject({ code: "PERMISSION_DENIED" });
      }
    }
  });

  it("the gateway's right does not reach into another tenant: its token is one that nobody knows", async () => {
    const other = await api.as("payment-gateway", otherTenant);
    const unknown = "99000000000";
    for (const method of [TokenService.method.detokenize, TokenService.method.getToken, TokenService.method.revokeToken, CardService.method.getCard]) {
      const refusals = await Promise.all(["", unknown].map(async (named) => (await other.end(method, requestNaming(method.input, named || token))).refusal));
      expect(refusals[0]).toMatchObject({ code: "NOT_FOUND" });
      expect(refusals[0]?.bytes).toEqual(refusals[1]?.bytes);
    }
    expect((await callerOf("payment-gateway").call(TokenService.method.getToken, { token })).token?.token).toBe(token);
  });
});

describe("PCI DSS 8.2: only principals that policy names are anybody", () => {
  it.each(methods.map((method) => [rowOf(method), method] as const))("%s is UNAUTHENTICATED for a good certificate without a role, and audited as denied", async (_row, method) => {
    const mark = await log.mark();
    const nobody = await api.stranger("nobody");
    for (const request of probes(method)) expect((await nobody.end(method, request)).refusal).toMatchObject({ code: "UNAUTHENTICATED", reason: "UNKNOWN_PRINCIPAL" });
    const left = await log.entries(demoTenant, mark);
    expect(left).toHaveLength(3);
    for (const entry of left) expect(entry).toMatchObject({ rpc: rpcOf(method), principal: spiffeId(trustDomain, demoTenant, "nobody"), outcome: "denied" });
  });

  it("a role's name alone gives nothing: the principal of that name in a tenant that is not there is nobody, and the installation's log says so", async () => {
    const mark = await log.mark();
    const impostor = await api.stranger("payment-gateway", "nowhere");
    expect(await impostor.refused(TokenService.method.getToken, { token })).toMatchObject({ code: "UNAUTHENTICATED" });
    expect(await log.entries("system", mark)).toMatchObject([{ principal: spiffeId(trustDomain, "nowhere", "payment-gateway"), outcome: "denied" }]);
  });
});
