import { randomInt } from "node:crypto";
import pg from "pg";
import { v7 as uuidv7 } from "uuid";
import { openHsm } from "../../hsm/driver.js";
import type { Hsm, KeyMaker } from "../../hsm/hsm.js";
import { RandomPool } from "../../hsm/random-pool.js";
import { CommittedWriter, type WriterObserver } from "../../src/audit/committed-writer.js";
import { ChainVerifier } from "../../src/audit/verify-chain.js";
import type { Call } from "../../src/call.js";
import { CardIndex } from "../../src/cards/card-index.js";
import { Institutions } from "../../src/cards/institution.js";
import { luhnCheckDigit } from "../../src/cards/luhn.js";
import { Pan } from "../../src/cards/pan.js";
import { type Limits, parseConfig } from "../../src/config.js";
import { initializeKeys, addTenant } from "../../src/keys/initialize.js";
import { KeyRing } from "../../src/keys/key-ring.js";
import { Database } from "../../src/store/database.js";
import { Detokenizer } from "../../src/vault/detokenize.js";
import { tokenFormats } from "../../src/vault/token-format.js";
import { TokenRecords } from "../../src/vault/token-records.js";
import { Tokenizer } from "../../src/vault/tokenize.js";
import type { TokenizeRequest } from "../../src/vault/tokenize-request.js";
import { type FreshDatabase, freshDatabase } from "./database.js";
import { CountingGuard, type FreshToken, freshToken, silentObserver } from "./token.js";

/** The limits as they stand when nobody sets any. */
export const defaultLimits: Limits = parseConfig(
  {
    tls: { certFile: "-", keyFile: "-", clientCaFile: "-", trustDomain: "test" },
    database: { url: "postgres://-" },
    hsm: { library: "-", tokenLabel: "-" },
  },
  "defaults",
).limits;

export const tenant = "acme";
export const otherTenant = "zenith";

/** What one server has in common with others: a database, a token, keys, two tenants. */
export interface VaultGround {
  readonly fresh: FreshDatabase;
  readonly token: FreshToken;
  readonly hsm: Hsm & KeyMaker;
  /** Runs SQL as a superuser. */
  admin<R extends object>(sql: string, values?: unknown[]): Promise<R[]>;
  close(): Promise<void>;
}

/** The vault's rooms as one server wires them, without the edge. */
export interface VaultRooms {
  readonly database: Database;
  readonly keys: KeyRing;
  readonly reveals: CommittedWriter;
  readonly mutations: CommittedWriter;
  readonly tokenizer: Tokenizer;
  readonly detokenizer: Detokenizer;
  readonly records: TokenRecords;
  readonly cards: CardIndex;
  readonly alerts: string[];
  close(): Promise<void>;
}

/** A database and a token of one's own, with keys and the tenants `acme` and `zenith`. */
export async function openGround(): Promise<VaultGround> {
  const [fresh, token] = await Promise.all([freshDatabase(), freshToken()]);
  const hsm = await openHsm(token.options, new CountingGuard(), silentObserver);
  const owner = new Database({ ...fresh.service, url: fresh.ownerUrl, role: "cardex_owner" });
  await initializeKeys(hsm, hsm, owner, "test");
  await addTenant(hsm, hsm, owner, "test", tenant);
  await addTenant(hsm, hsm, owner, "test", otherTenant);
  await owner.close();
  const admin = new pg.Pool({ connectionString: fresh.adminUrl, max: 2, options: "-c search_path=cardex" });
  // The database may be dropped before its sockets are closed.
  admin.on("error", () => undefined);
  return {
    fresh,
    token,
    hsm,
    admin: async <R extends object>(sql: string, values: unknown[] = []) => (await admin.query<R>(sql, values)).rows,
    close: async () => {
      await admin.end();
      await hsm.close(1000);
      await Promise.all([fresh.close(), token.close()]);
    },
  };
}

/** One server's rooms over that ground; several may stand on one. */
export async function openRooms(ground: VaultGround, limits: Limits = defaultLimits): Promise<VaultRooms> {
  const { hsm } = ground;
  const alerts: string[] = [];
  const database = new Database(ground.fresh.service);
  const observer: WriterObserver = {
    headMoved: () => alerts.push("headMoved"),
    commitResolved: (committed) => alerts.push(`commitResolved ${String(committed)}`),
    notDone: (call) => alerts.push(`not done ${call.rpc}`),
    withheld: (call) => alerts.push(`withheld ${call.rpc}`),
    workFailed: (kind) => alerts.push(`workFailed ${kind}`),
  };
  const writer = (stream: "reveal" | "mutation") =>
    new CommittedWriter({ database: ground.fresh.service, stream, queue_max: limits.writerQueue, batch_max: limits.writerBatch, observer });
  const [reveals, mutations] = [writer("reveal"), writer("mutation")];
  const keys = await KeyRing.open(hsm, database, ({ name }) => alerts.push(name));
  const parts = { database, hsm, keys, random: new RandomPool(hsm), institutions: new Institutions(database), reveals, mutations, limits };
  return {
    database,
    keys,
    reveals,
    mutations,
    alerts,
    tokenizer: new Tokenizer(parts),
    detokenizer: new Detokenizer({ ...parts, onIntegrity: () => alerts.push("integrity") }),
    records: new TokenRecords(parts),
    cards: new CardIndex(parts),
    close: async () => {
      await reveals.close();
      await mutations.close();
      await database.close();
    },
  };
}

/** A call as the edge would hand it on, allowed everything unless told otherwise. */
export function testCall(rpc: string, overrides: Partial<Call> & { tenant?: string } = {}): Call {
  const { tenant: of = tenant, ...rest } = overrides;
  const call: Call = {
    id: uuidv7(),
    rpc: `cardex.v1.${rpc}`,
    principal: { id: `spiffe://test/tenant/${of}/gateway`, tenant: of },
    address: "127.0.0.1",
    signal: new AbortController().signal,
    view: "masked",
    purpose: undefined,
    requestId: undefined,
    facts: {},
    resources: [],
    policyVersion: 1,
    decideAgain: (version) => {
      call.policyVersion = version;
      return Promise.resolve();
    },
    mayUseScope: () => true,
    unsettled: false,
    audited: false,
    ...rest,
  };
  return call;
}

/** A random PAN with this beginning and length. */
export function randomPan(length = 16, prefix = "4"): Pan {
  let digits = prefix;
  while (digits.length < length - 1) digits += String(randomInt(10));
  return Pan.parse(digits + luhnCheckDigit(digits));
}

/** A request with the usual options. */
export function tokenizeRequest(overrides: Partial<TokenizeRequest> = {}): TokenizeRequest {
  return {
    requestId: undefined,
    pan: randomPan(),
    expiry: { year: 2090, month: 12 },
    name: "",
    externalReference: "",
    format: tokenFormats.opaque,
    keepLastFour: false,
    scope: "",
    reused: false,
    ttl_s: undefined,
    uses_max: 0,
    ...overrides,
  };
}

/** Checks every chain in the database, the heads included; answers the parsed entries. */
export async function verifiedEntries(ground: Pick<VaultGround, "admin">): Promise<Record<string, unknown>[]> {
  const lines = await ground.admin<{ log: string; line: string }>("select log, line from audit_entries order by log, stream, seq");
  const heads = await ground.admin<{ log: string; stream: string; seq: string; hash: Buffer }>("select log, stream, seq, hash from audit_heads");
  for (const log of new Set(lines.map((row) => row.log))) {
    const verifier = new ChainVerifier();
    const problems = lines.filter((each) => each.log === log).flatMap((row) => verifier.accept(Buffer.from(row.line, "utf8")) ?? []);
    const ends = heads.filter((head) => head.log === log).map((head) => ({ stream: head.stream, seq: Number(head.seq), hash: head.hash.toString("hex") }));
    problems.push(...verifier.finish({ heads: ends, fromBeginning: true, toEnd: true }));
    if (problems.length > 0) throw new Error(`chain of ${log}: ${JSON.stringify(problems.slice(0, 3))}`);
  }
  return lines.map((row) => JSON.parse(row.line) as Record<string, unknown>);
}
