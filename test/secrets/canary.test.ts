import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { create, type DescMethod, type Message, toBinary, toJsonString } from "@bufbuild/protobuf";
import { Metadata } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardStatus } from "../../gen/cardex/v1/card_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { Purpose, TokenFormat, TokenReuse, TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { luhnCheckDigit } from "../../src/cards/luhn.js";
import type { Role } from "../../src/dev/installation.js";
import { pathOf } from "../../src/rpc/definition.js";
import { Admin } from "../support/admin.js";
import { Api, type Caller, requestOf } from "../support/api.js";
import { type Needle, panNeedles, search, textNeedles } from "../support/canary.js";
import { OwnCluster } from "../support/cluster.js";
import { cardex } from "../support/command.js";
import { freshDatabase } from "../support/database.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { metricsText } from "../support/probe.js";
import { withTextIn } from "../support/smuggle.js";

/** The first eleven digits of every canary: the eight that may be kept, and three that may not. */
const stem = "40929381743";
const nameStem = "CANARIA PLUMAGE";
const pans = ["1058", "2947", "3806", "4719"].map((digits) => `${stem}${digits}${luhnCheckDigit(`${stem}${digits}`)}`);
const [pan = "", second = "", third = "", fourth = ""] = pans;
const expiry = { year: 2090, month: 1 };
const needles: Needle[] = [
  ...textNeedles("a PAN's beginning", stem),
  ...textNeedles("a cardholder's name", nameStem),
  ...panNeedles("a PAN that was stored", pan),
  ...panNeedles("a PAN that was smuggled", third),
];

let own: OwnCluster;
let vault: TestInstallation;
let admin: Admin;
let api: Api;
/** What came back to callers, and what was read from outside. */
let evidence: string;
let kept = 0;

beforeAll(async () => {
  own = await OwnCluster.start();
  const database = await freshDatabase({ migrated: false, cluster: own.cluster });
  evidence = await mkdtemp(join(tmpdir(), "cardex-evidence-"));
  await mkdir(join(evidence, "tmp"));
  vault = await startInstallation({ database, overrides: { log: { level: "trace" } }, env: { TMPDIR: join(evidence, "tmp") } });
  admin = new Admin(database.adminUrl);
  api = await Api.of(vault);
});

afterAll(async () => {
  await admin?.close();
  await api?.close();
  await vault?.stop();
  await own?.close();
  await rm(evidence, { recursive: true, force: true });
});

async function keep(text: string | Uint8Array): Promise<void> {
  kept += 1;
  await writeFile(join(evidence, `${kept}.txt`), text);
}

/** Calls, and keeps whatever came back; but for the answers that are to hold a PAN. */
async function call(caller: Caller, method: DescMethod, request: Message): Promise<void> {
  const { code, answers, refusal } = await caller.end(method, request);
  const reveals = method.name === "Detokenize" || method.name === "BatchDetokenize";
  const texts = reveals ? [] : answers.map((answer) => toJsonString(method.output, answer));
  await keep([code, ...texts, refusal?.text ?? "", refusal?.bytes?.toString("latin1") ?? ""].join("\n"));
}

/** For every RPC who may call it, and a request that succeeds. An RPC without a row fails below. */
function goodRequests(token: string, indexCode: string): Map<DescMethod, readonly [Role, Message]> {
  const card = { key: { case: "token", value: token } } as const;
  const t = TokenService.method;
  const c = CardService.method;
  const a = AuditService.method;
  const item = { pan: second, expiry, cardholderName: `${nameStem} B`, externalReference: "order 7", options: { scope: "shop-1" } };
  return new Map<DescMethod, readonly [Role, Message]>([
    [t.tokenize, ["payment-gateway", requestOf(t.tokenize, { pan, expiry, cardholderName: `${nameStem} A` })]],
    [t.batchTokenize, ["payment-gateway", requestOf(t.batchTokenize, { requests: [item, { ...item, pan: `${second}0` }, { ...item, options: { format: TokenFormat.NUMERIC, keepLastFour: true, reuse: TokenReuse.SAME_CARD_AND_SCOPE } }] })]],
    [t.detokenize, ["payment-gateway", requestOf(t.detokenize, { token, purpose: Purpose.PAYMENT })]],
    [t.batchDetokenize, ["payment-gateway", requestOf(t.batchDetokenize, { purpose: Purpose.REFUND, items: [{ token }] })]],
    [t.getToken, ["payment-gateway", requestOf(t.getToken, { token })]],
    [t.listTokens, ["payment-gateway", requestOf(t.listTokens, { card, pageSize: 1 })]],
    [t.revokeToken, ["payment-gateway", requestOf(t.revokeToken, { token: "tok_none" })]],
    [c.getCard, ["risk-system", requestOf(c.getCard, { card })]],
    [c.batchGetCards, ["risk-system", requestOf(c.batchGetCards, { cards: [card, { key: { case: "indexCode", value: indexCode } }] })]],
    [c.setCardStatus, ["card-operations", requestOf(c.setCardStatus, { card, status: CardStatus.FROZEN, comment: "found" })]],
    [c.rotateIndexCode, ["card-operations", requestOf(c.rotateIndexCode, { card })]],
    [a.listEntries, ["auditor", requestOf(a.listEntries, { filter: { token }, pageSize: 5 })]],
    [a.exportEntries, ["auditor", requestOf(a.exportEntries, {})]],
  ]);
}

/** Bytes of a message with one text field, for services that are not ours. */
const textField = (field: number, text: string): Buffer => Buffer.concat([Buffer.of((field << 3) | 2, text.length), Buffer.from(text)]);

describe("PCI DSS 3.3.1 and 3.5.1: card numbers and names that went through everything", () => {
  test("every RPC, in success and in failure, and every text field of each that a card number can be smuggled in with", async () => {
    const gateway = await api.as("payment-gateway");
    const { token, indexCode } = await gateway.call(TokenService.method.tokenize, { pan, expiry, cardholderName: `${nameStem} A` });
    const requests = goodRequests(token, indexCode);
    const methods = [TokenService, CardService, AuditService].flatMap((service) => service.methods as readonly DescMethod[]);
    expect(methods.filter((method) => !requests.has(method)).map(pathOf)).toEqual([]);
    const forms = [third, third.replace(/(....)(?=.)/g, "$1 "), `spiffe://x/${third}`, `a/${third}`, `tok_${third}`];
    for (const [method, [role, good]] of requests) {
      const [allowed, other] = await Promise.all([api.as(role), api.as(role === "risk-system" ? "auditor" : "risk-system")]);
      await call(allowed, method, good);
      await call(other, method, good);
      for (const bad of forms.flatMap((form) => withTextIn(method.input, good, form))) {
        await call(allowed, method, bad);
      }
      if (method.methodKind !== "unary") continue;
      const bytes = toBinary(method.input, good);
      for (const broken of [Buffer.concat([bytes, textField(15, third), Buffer.of(0xff)]), Buffer.concat([bytes, textField(15, third)])]) {
        await keep(await allowed.bytes(pathOf(method), broken).then(() => "", (error: unknown) => String(error)));
      }
    }
    expect(kept).toBeGreaterThan(200);
  });

  test("everything else that a caller can write into: metadata, paths, other services, HTTP, TLS", async () => {
    const gateway = await api.as("payment-gateway");
    const same = (value: Buffer): Buffer => value;
    const metadata = new Metadata();
    for (const [key, value] of [["x-card", third], ["authorization", `Bearer ${third}`], ["traceparent", third], ["user-agent", third], ["grpc-timeout", third.slice(0, 8)]]) metadata.set(key ?? "", value ?? "");
    for (const path of [`/${third}/${third}`, `/cardex.v1.TokenService/${third}`, `/cardex.v1.TokenService/GetToken?pan=${third}`, "/cardex.v1.TokenService/GetToken"]) {
      await new Promise<void>((resolve) => {
        gateway.client.makeUnaryRequest(path, same, same, textField(1, third), metadata, (error) => void keep(String(error)).then(resolve));
      });
    }
    await keep(await gateway.bytes("/grpc.health.v1.Health/Check", textField(1, third)).then(String, String));
    const reflection = gateway.client.makeBidiStreamRequest("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", same, same);
    reflection.write(textField(4, `cardex.${third}`));
    reflection.end();
    const told: Buffer[] = [];
    // It says what it was asked for: that is the caller's own.
    for await (const answer of reflection as AsyncIterable<Buffer>) told.push(answer);
    expect(told).toHaveLength(1);

    const certificates = vault.layout.certificates;
    const [ca, cert, key] = await Promise.all(["ca.pem", "payment-gateway.pem", "payment-gateway.key"].map((name) => readFile(join(certificates, name))));
    const session = connectHttp2(`https://localhost:${vault.server().port}`, { ca, cert, key });
    for (const headers of [{ ":method": "POST", ":path": `/${third}`, "content-type": third }, { ":method": "POST", ":path": `/${third}`, "content-type": "application/grpc", "grpc-encoding": third }]) {
      await new Promise<void>((resolve) => {
        const stream = session.request(headers);
        stream.on("error", () => undefined).on("close", () => resolve()).resume().end(third);
      });
    }
    session.destroy();
    await new Promise<void>((resolve) => {
      connectTls({ host: "127.0.0.1", port: vault.server().port, servername: `${third}.example`, rejectUnauthorized: false }).on("error", () => undefined).on("close", () => resolve());
    });
    for (const path of [`/${third}`, `/readyz?${third}`]) await keep(await (await fetch(`http://127.0.0.1:${vault.server().probePort}${path}`, { headers: { "x-card": third } })).text());
  });

  test("a database that refuses the row, and an import by the command with good and bad lines", async () => {
    const gateway = await api.as("payment-gateway");
    for (const table of ["cards", "tokens", "audit_entries"]) {
      await admin.admin(`alter table ${table} add constraint refused check (false) not valid`);
      await call(gateway, TokenService.method.tokenize, create(TokenService.method.tokenize.input, { pan: fourth, expiry, cardholderName: nameStem }));
      await admin.admin(`alter table ${table} drop constraint refused`);
    }
    const input = join(vault.layout.folder, "cards.csv");
    const out = join(evidence, "tokens.csv");
    const rows = [[fourth, "2090-01", `${nameStem} C`], [`${stem}00000`, "2090-01", nameStem], [pan, "2001-01", nameStem], [pan, "2090-01", pan], ["x", pan, nameStem]];
    await writeFile(input, ["pan,expiry,cardholder_name", ...rows.map((row) => row.join(","))].join("\n"));
    const identity = join(vault.layout.certificates, "payment-gateway");
    const connection = ["--server", `localhost:${vault.server().port}`, "--ca", join(vault.layout.certificates, "ca.pem"), "--cert", `${identity}.pem`, "--key", `${identity}.key`];
    const outcome = await cardex(["import", input, "--out", out, ...connection], { env: { TMPDIR: join(evidence, "tmp") } });
    await writeFile(input, "");
    await keep(outcome.stdout + outcome.stderr);
    expect(outcome.stdout).toContain("5 rows: 1 new cards, 0 known cards, 4 rejected");
  });

  test("are in no file of the database, its WAL, its log, nor in a dump, the log of the server at its most talkative, the audit log, metrics, answers, errors, state or temporary files", async () => {
    const auditor = await api.as("auditor");
    await call(auditor, AuditService.method.exportEntries, requestOf(AuditService.method.exportEntries, {}));
    await keep(await metricsText(vault.server()));
    const tables = await admin.admin<{ name: string }>("select c.oid::regclass::text as name from pg_class c where relnamespace = 'cardex'::regnamespace and relkind in ('r', 'p')");
    expect(tables.map(({ name }) => name)).toEqual(expect.arrayContaining(["cards", "tokens", "card_fingerprints", "requests", "audit_entries"]));
    for (const { name } of tables) await keep((await admin.admin<{ row: string }>(`select t::text as row from ${name} t`)).map(({ row }) => row).join("\n"));
    expect(await admin.count("select count(*) from cards")).toBe(pans.length);
    expect(await readFile(vault.server().logFile, "utf8")).toContain("cardex.v1.TokenService/BatchTokenize");
    await vault.server().process.stop();
    await own.halt();
    try {
      expect(await search([own.cluster.dataDirectory ?? "", own.logFile, vault.layout.folder, evidence], needles)).toEqual([]);
    } finally {
      await own.resume();
    }
  });

  test("would have been found in every one of these forms, and in rows, pages and WAL of the database", async () => {
    const planted = join(evidence, "planted");
    await mkdir(planted);
    for (const [i, { bytes }] of needles.entries()) await writeFile(join(planted, `${i}.bin`), Buffer.concat([Buffer.from("before"), bytes, Buffer.from("after")]));
    const files = new Set((await search([planted], needles)).map((each) => each.split(": ")[0]));
    expect(files.size).toBe(needles.length);
    for (const prefix of ["", "x", "xx"]) await writeFile(join(planted, `base64-${prefix.length}.txt`), Buffer.from(`${prefix}${pan}`).toString("base64"));
    expect((await search([planted], needles)).filter((each) => each.includes("base64-"))).toHaveLength(3);

    await admin.admin("create table planted (digits text, bytes bytea)");
    await admin.admin("insert into planted values ($1, $2)", [pan, Buffer.from(pan, "hex")]);
    await admin.admin("checkpoint");
    const found = await search([own.cluster.dataDirectory ?? ""], needles.filter(({ form }) => /text|BCD$/.test(form)));
    for (const place of ["base", "pg_wal"]) {
      expect(found.filter((each) => each.includes(`/${place}/`) && each.endsWith("a PAN's beginning, text"))).not.toEqual([]);
      expect(found.filter((each) => each.includes(`/${place}/`) && each.endsWith("a PAN that was stored, BCD"))).not.toEqual([]);
    }
  });
});
