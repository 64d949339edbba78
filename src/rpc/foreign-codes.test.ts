import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardStatus } from "../../gen/cardex/v1/card_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { defaultLimits, openGround, openRooms, tenant, testCall, tokenizeRequest, type VaultGround, type VaultRooms } from "../../test/support/vault.js";
import { GuessLimit } from "../access/guess-limit.js";
import { ItemsInFlight } from "../access/in-flight.js";
import type { Call } from "../call.js";
import { Institutions } from "../cards/institution.js";
import { passesLuhn } from "../cards/luhn.js";
import { auditService } from "./audit-service.js";
import { cardService } from "./card-service.js";
import { tokenService } from "./token-service.js";

let ground: VaultGround;
let rooms: VaultRooms;
let institution: string;
let handlers: ReturnType<typeof handlersOf>;

beforeAll(async () => {
  ground = await openGround();
  rooms = await openRooms(ground);
  institution = await new Institutions(rooms.database).of(tenant);
  handlers = handlersOf();
});

afterAll(async () => {
  await rooms.close();
  await ground.close();
});

function handlersOf() {
  const items = new ItemsInFlight(defaultLimits);
  return {
    cards: cardService(rooms.cards, items, { cards: { indexCodeGrace_days: 1 }, limits: defaultLimits }),
    tokens: tokenService({ ...rooms, guesses: new GuessLimit(defaultLimits, () => undefined), items, limits: defaultLimits }),
    audit: auditService(rooms.database, new Institutions(rooms.database), defaultLimits),
  };
}

/** A PAN with one digit wrong has the form of an index code; this one is not of the tenant's institution. */
function mistypedPan(): string {
  const [body] = ["411111111111111", "555555555555444"].filter((digits) => !digits.startsWith(institution));
  for (const digit of "0123456789") if (!passesLuhn(`${body}${digit}`)) return `${body}${digit}`;
  throw new Error("every digit passes");
}

/** A code that could be the tenant's, and is nobody's. */
function unknownCode(): string {
  for (let serial = 0; ; serial += 1) {
    const code = `${institution}99${String(serial).padStart(10, "0")}`;
    if (!passesLuhn(code)) return code;
  }
}

const key = (value: string) => ({ key: { case: "indexCode" as const, value } });

type Ask = (call: Call, code: string) => Promise<unknown>;
const asks: Record<string, Ask> = {
  GetCard: (call, code) => handlers.cards.getCard(create(CardService.method.getCard.input, { card: key(code) }), call),
  SetCardStatus: (call, code) => handlers.cards.setCardStatus(create(CardService.method.setCardStatus.input, { card: key(code), status: CardStatus.FROZEN }), call),
  RotateIndexCode: (call, code) => handlers.cards.rotateIndexCode(create(CardService.method.rotateIndexCode.input, { card: key(code) }), call),
  ListTokens: (call, code) => handlers.tokens.listTokens(create(TokenService.method.listTokens.input, { card: key(code) }), call),
};

describe("an index code that begins with another institution may be a PAN with a digit wrong:", () => {
  it.each(Object.keys(asks))("%s answers as for any unknown code, and leaves it out of the entry", async (rpc) => {
    const [foreign, unknown] = [testCall(`CardService/${rpc}`), testCall(`CardService/${rpc}`)];
    const refusal = await asks[rpc]?.(foreign, mistypedPan()).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ reason: "NOT_FOUND", inner: "unknown" });
    expect(refusal).toEqual(await asks[rpc]?.(unknown, unknownCode()).catch((error: unknown) => error));
    expect(JSON.stringify([foreign.resources, foreign.facts])).not.toContain(mistypedPan().slice(0, 12));
    expect(JSON.stringify(unknown.resources)).toContain(unknownCode());
  });

  it("BatchGetCards says so of the item alone", async () => {
    const [answer] = await rooms.tokenizer.tokenize(testCall("TokenService/Tokenize"), [tokenizeRequest()]);
    if (answer?.ok !== true) throw answer?.error;
    const call = testCall("CardService/BatchGetCards");
    const { results = [] } = await handlers.cards.batchGetCards(create(CardService.method.batchGetCards.input, { cards: [mistypedPan(), answer.value.indexCode, unknownCode()].map(key) }), call);
    expect(results.map(({ result }) => result?.case)).toEqual(["error", "response", "error"]);
    expect(results[0]).toEqual(results[2]);
    expect(call.resources).toMatchObject([{ outcome: "failed", reason: "unknown" }, { indexCode: answer.value.indexCode, outcome: "done" }, { indexCode: unknownCode() }]);
    expect(call.resources[0]).not.toHaveProperty("indexCode");
  });

  it("ListEntries finds nothing, and its own entry does not have it", async () => {
    const call = testCall("AuditService/ListEntries");
    const list = (indexCode: string, by: Call) => handlers.audit.listEntries(create(AuditService.method.listEntries.input, { filter: { indexCode } }), by);
    expect(await list(mistypedPan(), call)).toEqual({ entries: [], nextPageToken: "" });
    expect(call.facts).toEqual({ filter_index_code: "unknown" });
    const own = testCall("AuditService/ListEntries");
    await list(unknownCode(), own);
    expect(own.facts).toEqual({ filter_index_code: unknownCode() });
  });

  it("a tenant that was not set up has no code at all", async () => {
    const call = testCall("CardService/GetCard", { tenant: "nowhere" });
    await expect(asks["GetCard"]?.(call, unknownCode())).rejects.toMatchObject({ reason: "NOT_FOUND" });
  });
});
