import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { CardStatus } from "../../gen/cardex/v1/card_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { Purpose, TokenFormat, TokenOptionsSchema, TokenReuse, TokenService, TokenStatus } from "../../gen/cardex/v1/token_service_pb.js";
import { passesLuhn } from "../../src/cards/luhn.js";
import { testCard } from "../../src/dev/test-cards.js";
import { Api, type Caller } from "../support/api.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { LogReader } from "../support/log-reader.js";

const guesses_max = 12;
const { tokenize, detokenize, getToken, listTokens, revokeToken } = TokenService.method;
const { getCard, setCardStatus, rotateIndexCode } = CardService.method;

const expiry = { year: 2035, month: 1 };
let vault: TestInstallation;
let api: Api;
let log: LogReader;
let gateway: Caller;
let operations: Caller;
/** Another gateway, which policy gives tokens of the scope shop-1 only. */
let shop: Caller;
let cards = 0;

beforeAll(async () => {
  vault = await startInstallation({ overrides: { limits: { tokenizationsPerMaskedPan: guesses_max } } });
  api = await Api.of(vault);
  log = new LogReader(vault.database.adminUrl);
  gateway = await api.as("payment-gateway");
  operations = await api.as("card-operations");
  await api.addRules([
    "p, shop-gateway, *, TokenService, *, (none), allow",
    "p, shop-gateway, *, TokenService, *, PAYMENT, allow",
    "p, shop-gateway, *, scope, shop-1, *, allow",
    "p, shop-gateway, *, view, masked, *, allow",
  ]);
  shop = await api.principal("shop-1", "shop-gateway");
});

afterAll(async () => {
  await log.close();
  await api.close();
  await vault.stop();
});

const newPan = (): string => testCard((cards += 1)).pan;

/** Cards that share BIN and last four with this one of 16 digits: what somebody tries who knows the masked view. */
function guessesOf(pan: string): string[] {
  const all = Array.from({ length: 10_000 }, (_, middle) => pan.slice(0, 8) + String(middle).padStart(4, "0") + pan.slice(-4));
  return all.filter((each) => passesLuhn(each)).slice(0, guesses_max + 3);
}

const byToken = (token: string) => ({ key: { case: "token" as const, value: token } });
const byCode = (code: string) => ({ key: { case: "indexCode" as const, value: code } });
const detokenizes = async (token: string): Promise<string> => (await gateway.call(detokenize, { token, purpose: Purpose.PAYMENT })).pan;

describe("a token", () => {
  it("is described to its tenant as it was made, and as it is", async () => {
    const pan = newPan();
    const options = create(TokenOptionsSchema, { format: TokenFormat.NUMERIC, keepLastFour: true, scope: "shop-1", maxUses: 2, ttl: { seconds: 3600n } });
    const made = await gateway.call(tokenize, { pan, expiry, externalReference: "order 7", options });
    const described = await gateway.call(getToken, { token: made.token });
    expect(described.token).toMatchObject({
      token: made.token,
      status: TokenStatus.ACTIVE,
      format: TokenFormat.NUMERIC,
      keepLastFour: true,
      scope: "shop-1",
      reuse: TokenReuse.ALWAYS_NEW,
      externalReference: "order 7",
      indexCode: made.indexCode,
      maxUses: 2,
      remainingUses: 2,
    });
    expect(made.token.slice(-4)).toBe(pan.slice(-4));
    expect(described.token?.expireTime).toEqual(made.expireTime);
    expect(Number(made.expireTime?.seconds) - Number(described.token?.createTime?.seconds)).toBe(3600);
  });

  it("of limited use goes from active to used up, use by use", async () => {
    const { token } = await gateway.call(tokenize, { pan: newPan(), expiry, options: { maxUses: 2 } });
    const states: [TokenStatus | undefined, number | undefined][] = [];
    for (let i = 0; i < 3; i += 1) {
      const described = (await gateway.call(getToken, { token })).token;
      states.push([described?.status, described?.remainingUses]);
      if (i < 2) await detokenizes(token);
    }
    expect(states).toEqual([[TokenStatus.ACTIVE, 2], [TokenStatus.ACTIVE, 1], [TokenStatus.USED_UP, 0]]);
    expect(await gateway.refused(detokenize, { token, purpose: Purpose.PAYMENT })).toMatchObject({ code: "NOT_FOUND" });
  });

  it("expires at its time", async () => {
    const { token } = await gateway.call(tokenize, { pan: newPan(), expiry, options: { ttl: { seconds: 2n } } });
    await detokenizes(token);
    await vi.waitFor(async () => expect(await gateway.refused(detokenize, { token, purpose: Purpose.PAYMENT })).toMatchObject({ code: "NOT_FOUND" }), { timeout: 10_000 });
    expect((await gateway.call(getToken, { token })).token?.status).toBe(TokenStatus.EXPIRED);
  });

  it("is revoked for good, and revoking it again changes nothing", async () => {
    const { token } = await gateway.call(tokenize, { pan: newPan(), expiry });
    const first = (await gateway.call(revokeToken, { token })).token;
    const second = (await operations.call(revokeToken, { token })).token;
    expect(first).toMatchObject({ status: TokenStatus.REVOKED });
    expect(first?.revokeTime).toBeDefined();
    expect(second).toEqual(first);
    expect(await gateway.refused(detokenize, { token, purpose: Purpose.PAYMENT })).toMatchObject({ code: "NOT_FOUND" });
    expect(await gateway.refused(revokeToken, { token: "99000000000" })).toMatchObject({ code: "NOT_FOUND" });
  });

  it("is reused for the same card, scope and form, and made anew once it is revoked", async () => {
    const pan = newPan();
    const ask = async (options: object) => (await gateway.call(tokenize, { pan, expiry, options: { reuse: TokenReuse.SAME_CARD_AND_SCOPE, ...options } })).token;
    const token = await ask({ scope: "a" });
    expect(await ask({ scope: "a" })).toBe(token);
    expect(new Set([token, await ask({ scope: "b" }), await ask({ scope: "a", format: TokenFormat.NUMERIC }), await ask({})]).size).toBe(4);
    await gateway.call(revokeToken, { token });
    expect(await ask({ scope: "a" })).not.toBe(token);
  });

  it("of a scope that policy does not give the caller is one that nobody knows", async () => {
    const pan = newPan();
    const [mine, theirs] = await Promise.all(["shop-1", "shop-2"].map(async (scope) => (await gateway.call(tokenize, { pan, expiry, options: { scope } })).token));
    expect((await shop.call(detokenize, { token: mine ?? "", purpose: Purpose.PAYMENT })).pan).toBe(pan);
    expect(await shop.refused(detokenize, { token: theirs ?? "", purpose: Purpose.PAYMENT })).toMatchObject({ code: "NOT_FOUND" });
    expect(await detokenizes(theirs ?? "")).toBe(pan);
  });
});

describe("ListTokens", () => {
  it("pages through a card's tokens, newest first, each once, while others are made", async () => {
    const pan = newPan();
    const make = async (scope = "") => (await gateway.call(tokenize, { pan, expiry, options: { scope } })).token;
    const made: string[] = [];
    for (let i = 0; i < 7; i += 1) made.push(await make());
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await gateway.call(listTokens, { card: byToken(made[0] ?? ""), pageSize: 2, pageToken });
      seen.push(...page.tokens.map(({ token }) => token));
      pageToken = page.nextPageToken;
      if (seen.length <= 4) await make("later");
    } while (pageToken !== "");
    expect(seen).toEqual(made.toReversed());
    const { tokens } = await operations.call(listTokens, { card: byToken(made[0] ?? ""), scope: "later" });
    expect(tokens.map(({ scope }) => scope)).toEqual(["later", "later"]);
  });
});

describe("an index code", () => {
  it("has the institution's four digits, the type's two, and never passes Luhn; it names the same card as each of its tokens", async () => {
    const pan = newPan();
    const [first, second] = [await gateway.call(tokenize, { pan, expiry }), await gateway.call(tokenize, { pan, expiry })];
    expect(first).toMatchObject({ cardKnown: false });
    expect(second).toMatchObject({ cardKnown: true, indexCode: first.indexCode });
    const [tenant] = await log.sql<{ institution: string }>("select institution from tenants");
    expect(first.indexCode).toMatch(new RegExp(`^${tenant?.institution}\\d{12}$`));
    expect(passesLuhn(first.indexCode)).toBe(false);
    const found = await Promise.all([byCode(first.indexCode), byToken(first.token), byToken(second.token)].map(async (card) => (await gateway.call(getCard, { card })).card));
    expect(found[1]).toEqual(found[0]);
    expect(found[2]).toEqual(found[0]);
    expect(found[0]).toMatchObject({ indexCode: first.indexCode, status: CardStatus.ACTIVE, version: 1n });
  });

  it("rotates: the old one answers for its grace period and does not tell the new one, then never again", async () => {
    const { token, indexCode } = await gateway.call(tokenize, { pan: newPan(), expiry });
    const rotated = await operations.call(rotateIndexCode, { card: byCode(indexCode), gracePeriod: { seconds: 2n } });
    const fresh = rotated.card?.indexCode ?? "";
    expect(fresh).toMatch(/^\d{16}$/);
    expect(fresh).not.toBe(indexCode);
    const byOld = await gateway.call(getCard, { card: byCode(indexCode) });
    expect(byOld.card).toMatchObject({ indexCode: "", status: CardStatus.ACTIVE });
    expect(byOld.indexCodeExpireTime).toEqual(rotated.oldIndexCodeExpireTime);
    await vi.waitFor(async () => expect(await gateway.refused(getCard, { card: byCode(indexCode) })).toMatchObject({ code: "NOT_FOUND" }), { timeout: 10_000 });
    expect((await gateway.call(getCard, { card: byToken(token) })).card?.indexCode).toBe(fresh);
  });
});

describe("SetCardStatus", () => {
  it("with expected_version changes only the card that its caller saw", async () => {
    const { token } = await gateway.call(tokenize, { pan: newPan(), expiry });
    const seen = (await operations.call(getCard, { card: byToken(token) })).card?.version ?? 0n;
    const frozen = await operations.call(setCardStatus, { card: byToken(token), status: CardStatus.FROZEN, expectedVersion: seen });
    expect(frozen.card).toMatchObject({ status: CardStatus.FROZEN, version: seen + 1n });
    const late = { card: byToken(token), status: CardStatus.ACTIVE, expectedVersion: seen };
    expect(await operations.refused(setCardStatus, late)).toMatchObject({ code: "ABORTED", reason: "VERSION_MISMATCH" });
    expect((await operations.call(setCardStatus, { ...late, expectedVersion: seen + 1n })).card).toMatchObject({ status: CardStatus.ACTIVE });
  });

  it("of two callers that saw the same version lets one through", async () => {
    const { token } = await gateway.call(tokenize, { pan: newPan(), expiry });
    const ask = { card: byToken(token), status: CardStatus.FROZEN, expectedVersion: 1n };
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => operations.call(setCardStatus, ask)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  it.each([CardStatus.LOST, CardStatus.STOLEN, CardStatus.CLOSED])("to %i stops every purpose but refund and chargeback at once", async (status) => {
    const pan = newPan();
    const { token } = await gateway.call(tokenize, { pan, expiry });
    await operations.call(setCardStatus, { card: byToken(token), status });
    for (const purpose of [Purpose.PAYMENT, Purpose.RECURRING_PAYMENT, Purpose.NETWORK_TOKENIZATION, Purpose.ACCOUNT_UPDATE, Purpose.MIGRATION]) {
      expect(await gateway.refused(detokenize, { token, purpose })).toMatchObject({ code: "FAILED_PRECONDITION", reason: "CARD_STATUS" });
    }
    for (const purpose of [Purpose.REFUND, Purpose.CHARGEBACK]) expect(await gateway.call(detokenize, { token, purpose })).toMatchObject({ pan, status });
  });
});

describe("Tokenize is no oracle for guesses (tokenizationsPerMaskedPan)", () => {
  it("up to the limit works; one more is refused with what to wait for, alerted once, and others are not affected", async () => {
    const mark = await log.mark();
    const guesses = guessesOf("4242424242424242");
    expect(new Set(guesses).size).toBe(guesses_max + 3);
    for (const pan of guesses.slice(0, guesses_max)) await gateway.call(tokenize, { pan, expiry });
    for (const pan of guesses.slice(guesses_max)) {
      expect(await gateway.refused(tokenize, { pan, expiry })).toMatchObject({
        code: "RESOURCE_EXHAUSTED",
        details: [{ reason: "LIMIT" }, { violations: [{ subject: "tokenizationsPerMaskedPan" }] }, { $typeName: "google.rpc.RetryInfo" }],
      });
    }
    await gateway.call(tokenize, { pan: newPan(), expiry });
    await shop.call(tokenize, { pan: guesses[0] ?? "", expiry });
    const alerts = (await log.entries("system", mark)).filter(({ kind }) => kind === "alert.tokenize.guessing");
    expect(alerts).toMatchObject([{ principal: expect.stringContaining("payment-gateway") as string }]);
  });
});
