import { create, type DescField, type DescFile, type DescMessage, type DescMethod, type DescService, type Message } from "@bufbuild/protobuf";
import { reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { Purpose, TokenFormat, TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { luhnCheckDigit, passesLuhn } from "../../src/cards/luhn.js";
import { Pan } from "../../src/cards/pan.js";
import { type Role, roles } from "../../src/dev/installation.js";
import { Api, type Caller, type EndedCall, requestOf } from "../support/api.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { LogReader } from "../support/log-reader.js";

const services: readonly DescService[] = [TokenService, CardService, AuditService];
const { method: tokenMethods } = TokenService;
const { method: cardMethods } = CardService;

/** A card of a test's own, as the gateway knows it. */
interface Known {
  readonly pan: Pan;
  readonly token: string;
  readonly indexCode: string;
}

const expiry = { year: 2035, month: 1 };

/** A request to each RPC that is answered to whoever may call it. An RPC without one fails below. */
const requests: Readonly<Record<string, (card: Known) => Message>> = {
  Tokenize: ({ pan }) => requestOf(tokenMethods.tokenize, { pan: pan.openDigits(), expiry, options: { format: TokenFormat.NUMERIC } }),
  BatchTokenize: ({ pan }) => requestOf(tokenMethods.batchTokenize, { requests: [{ pan: pan.openDigits(), expiry }, { pan: pan.openDigits() }] }),
  Detokenize: ({ token }) => requestOf(tokenMethods.detokenize, { token, purpose: Purpose.PAYMENT }),
  BatchDetokenize: ({ token, pan }) => requestOf(tokenMethods.batchDetokenize, { items: [{ token }, { token: pan.openDigits() }], purpose: Purpose.PAYMENT }),
  GetToken: ({ token }) => requestOf(tokenMethods.getToken, { token }),
  ListTokens: ({ indexCode }) => requestOf(tokenMethods.listTokens, { card: { key: { case: "indexCode", value: indexCode } } }),
  RevokeToken: ({ token }) => requestOf(tokenMethods.revokeToken, { token }),
  GetCard: ({ indexCode }) => requestOf(cardMethods.getCard, { card: { key: { case: "indexCode", value: indexCode } } }),
  BatchGetCards: ({ token }) => requestOf(cardMethods.batchGetCards, { cards: [{ key: { case: "token", value: token } }] }),
  SetCardStatus: ({ token }) => requestOf(cardMethods.setCardStatus, { card: { key: { case: "token", value: token } }, status: 2 }),
  RotateIndexCode: ({ token }) => requestOf(cardMethods.rotateIndexCode, { card: { key: { case: "token", value: token } } }),
  ListEntries: () => requestOf(AuditService.method.listEntries, { pageSize: 200 }),
  ExportEntries: () => requestOf(AuditService.method.exportEntries, {}),
};

/** The one place of a whole PAN: the gateway's answer to Detokenize. */
const revealing = new Map([["cardex.v1.DetokenizeResponse", "pan"]]);

let vault: TestInstallation;
let api: Api;
let log: LogReader;
const callers = new Map<Role, Caller>();

beforeAll(async () => {
  vault = await startInstallation({ overrides: { limits: { tokenizationsPerMaskedPan: 10_000 } } });
  api = await Api.of(vault);
  log = new LogReader(vault.database.adminUrl);
  for (const role of roles) callers.set(role, await api.as(role));
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

async function tokenized(pan: Pan): Promise<Known> {
  const { token, indexCode } = await callerOf("payment-gateway").call(tokenMethods.tokenize, { pan: pan.openDigits(), expiry, cardholderName: "ADA LOVELACE" });
  return { pan, token, indexCode };
}

interface Text {
  readonly at: string;
  readonly text: string;
  /** Random by nature, so that a few digits are the same as a card's by chance. */
  readonly random: boolean;
}

const randomFields: ReadonlySet<string> = new Set(["token", "index_code", "hash", "stream", "cursor", "next_page_token"]);

/** A line of the log without what is random in it: hashes, UUIDs, tokens and index codes, none of which can be a PAN by its form. */
function withoutRandom(line: string): string {
  const ids = line.replaceAll(/"[0-9a-f]{64}"|"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"|"tok_[a-z2-7]{32}"/g, '""');
  return ids.replaceAll(/"[0-9]{11,19}"/g, (quoted) => (passesLuhn(quoted.slice(1, -1)) ? quoted : '""'));
}

/** Every string in a message, at any depth; bytes as text, as hex and in base64. */
function texts(message: ReflectMessage, at = message.desc.typeName): Text[] {
  return message.fields.flatMap((field): Text[] => {
    if (!message.isSet(field)) return [];
    const place = `${at}.${field.name}`;
    const each = (value: unknown): Text[] => textsOf(field, value, place);
    if (field.fieldKind === "list") return [...message.get(field)].flatMap(each);
    if (field.fieldKind === "map") return [...message.get(field)].flatMap(each);
    return each(message.get(field));
  });
}

function textsOf(field: DescField, value: unknown, at: string): Text[] {
  const random = randomFields.has(field.name);
  if (isReflected(value)) return texts(value, at);
  if (value instanceof Uint8Array) return bytesTexts(value, at, random);
  if (typeof value === "number" || typeof value === "bigint") return [{ at, text: String(value), random }];
  if (typeof value !== "string" || revealing.get(field.parent.typeName) === field.name) return [];
  return [{ at, text: /^lines?$/.test(field.name) ? withoutRandom(value) : value, random }];
}

function isReflected(value: unknown): value is ReflectMessage {
  return typeof value === "object" && value !== null && "desc" in value && "message" in value;
}

function bytesTexts(bytes: Uint8Array, at: string, random: boolean): Text[] {
  const buffer = Buffer.from(bytes);
  return (["latin1", "utf16le", "hex", "base64"] as const).map((encoding) => ({ at, text: buffer.toString(encoding), random }));
}

function textsOfCall(method: DescMethod, { answers, refusal }: EndedCall): Text[] {
  const refused = refusal === undefined ? [] : [{ at: "status message", text: refusal.text, random: false }, ...bytesTexts(refusal.bytes ?? Buffer.alloc(0), "status details", false)];
  return [...answers.flatMap((answer) => texts(reflect(method.output, answer))), ...refused];
}

/** The longest run of digits that a text has in common with a PAN. */
function commonRun(text: string, digits: string): number {
  let longest = 0;
  for (let start = 0; start < digits.length; start += 1) {
    while (start + longest < digits.length && text.includes(digits.slice(start, start + longest + 1))) longest += 1;
  }
  return longest;
}

/** PANs of 15 digits and more: shorter ones show so few digits that any text has as many by chance (their masked views are tested below). */
const pans = fc
  .record({ prefix: fc.constantFrom("4", "51", "37", "6011", "35", "2200"), length: fc.integer({ min: 15, max: 19 }), filler: fc.noBias(fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 19, maxLength: 19 })) })
  .map(({ prefix, length, filler }) => {
    const digits = (prefix + filler.join("")).slice(0, length - 1);
    return Pan.parse(digits + luhnCheckDigit(digits));
  });

describe("PCI DSS 3.4.1: a PAN is masked wherever a role need not see it", () => {
  it("there is a request for every RPC", () => {
    expect(Object.keys(requests).toSorted()).toEqual(services.flatMap((service) => service.methods.map((method) => method.name)).toSorted());
  });

  it("no answer to any role has more of it in a row than the masked view, in any field, except Detokenize's to the gateway", async () => {
    const answered = new Set<string>();
    await fc.assert(
      fc.asyncProperty(pans, async (pan) => {
        const visible = Math.max(pan.truncated.bin.length, pan.truncated.lastFour.length);
        for (const service of services) {
          for (const method of service.methods) {
            const request = requests[method.name]?.(await tokenized(pan)) ?? create(method.input);
            for (const role of roles) {
              const ended = await callerOf(role).end(method, request);
              if (ended.code === "OK") answered.add(`${role} ${method.name}`);
              for (const { at, text, random } of textsOfCall(method, ended)) {
                expect(commonRun(text, pan.openDigits()), `${method.name} to ${role}: ${at}`).toBeLessThanOrEqual(random ? 8 : visible);
              }
            }
          }
        }
      }),
      { numRuns: 3 },
    );
    // The property is about answers: these are those that there were.
    const seen = (role: Role): string[] => [...answered].filter((each) => each.startsWith(`${role} `)).map((each) => each.slice(role.length + 1)).toSorted();
    expect(seen("payment-gateway")).toEqual(["BatchDetokenize", "BatchGetCards", "BatchTokenize", "Detokenize", "GetCard", "GetToken", "ListTokens", "RevokeToken", "Tokenize"]);
    expect(seen("risk-system")).toEqual(["BatchGetCards", "GetCard"]);
    expect(seen("card-operations")).toEqual(["BatchGetCards", "GetCard", "GetToken", "ListTokens", "RevokeToken", "RotateIndexCode", "SetCardStatus"]);
    expect(seen("auditor")).toEqual(["ExportEntries", "ListEntries"]);
    for (const role of ["key-custodian", "policy-admin", "analyst", "operator"] as const) expect(seen(role)).toEqual([]);
  });

  it("the masked view hides 4 digits of 16 and more, 5 of 15, 6 of fewer (FAQ 1091), for every length", async () => {
    for (let length = 8; length <= 19; length += 1) {
      const body = "4539578763621486127".slice(0, length - 1);
      const { token } = await tokenized(Pan.parse(body + luhnCheckDigit(body)));
      const { card } = await callerOf("risk-system").call(cardMethods.getCard, { card: { key: { case: "token", value: token } } });
      const { bin = "", lastFour = "", panLength } = card?.masked ?? {};
      expect(panLength).toBe(length);
      expect(length - bin.length - lastFour.length).toBeGreaterThanOrEqual(length >= 16 ? 4 : length === 15 ? 5 : 6);
      expect(body.startsWith(bin)).toBe(true);
    }
  });

  it("a role that policy gives no view of cards sees status and codes, and no digit of the PAN", async () => {
    await api.addRules(["p, blind, *, CardService, GetCard, (none), allow"]);
    const blind = await api.principal("blind-1", "blind");
    const { indexCode } = await tokenized(Pan.parse("4539578763621486"));
    const { card } = await blind.call(cardMethods.getCard, { card: { key: { case: "indexCode", value: indexCode } } });
    expect(card).toMatchObject({ indexCode, status: 1 });
    expect(card?.masked).toBeUndefined();
  });
});

const forbidden = /^(cvv2?|cvc2?|cid|cav2?|csc|cvn|pin|pins|pvv|track|track1|track2|magstripe|stripe|emv|icc)$/;

/** Words of a name in snake_case or camelCase. */
function wordsOf(name: string): string[] {
  return name.replaceAll(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase().split(/[^a-z0-9]+/);
}

function isForbidden(name: string): boolean {
  return wordsOf(name).some((word) => forbidden.test(word)) || /security_?code|verification_?(value|code)|magnetic/i.test(name);
}

describe("PCI DSS 3.3.1 to 3.3.1.3: there is no place for a verification value, a PIN or track data", () => {
  it("in any message of the API", () => {
    const files = new Set<DescFile>();
    const collect = (file: DescFile): void => {
      files.add(file);
      file.dependencies.forEach(collect);
    };
    for (const service of services) collect(service.file);
    const own = [...files].filter((file) => file.proto.package.startsWith("cardex."));
    const inside = (message: DescMessage): DescMessage[] => [message, ...message.nestedMessages.flatMap(inside)];
    const names = own.flatMap((file) => file.messages.flatMap(inside).flatMap((message) => [message.name, ...message.fields.map((field) => field.name)]));
    expect(names).toContain("cardholder_name");
    expect(names.filter(isForbidden)).toEqual([]);
    expect(["cvv", "cardCvv2", "pin_block", "track2_data", "securityCode", "card_verification_value"].filter((name) => !isForbidden(name))).toEqual([]);
  });

  it("in any table of the database", async () => {
    const columns = await log.sql<{ name: string }>("select table_name || '.' || column_name as name from information_schema.columns where table_schema = 'cardex'");
    expect(columns.map(({ name }) => name)).toContain("cards.sealed");
    expect(columns.filter(({ name }) => isForbidden(name))).toEqual([]);
  });
});
