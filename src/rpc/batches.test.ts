import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { defaultLimits, openGround, openRooms, testCall, type VaultGround, type VaultRooms } from "../../test/support/vault.js";
import { GuessLimit } from "../access/guess-limit.js";
import { ItemsInFlight } from "../access/in-flight.js";
import { cardService } from "./card-service.js";
import { tokenService } from "./token-service.js";

let ground: VaultGround;
let rooms: VaultRooms;

beforeAll(async () => {
  ground = await openGround();
  rooms = await openRooms(ground);
});

afterAll(async () => {
  await rooms.close();
  await ground.close();
});

it("batches of every kind share limits.itemsInFlightPerPrincipal; one more is refused, and taken when they have ended", async () => {
  const items = new ItemsInFlight({ itemsInFlightPerPrincipal: 4 });
  const guesses = new GuessLimit(defaultLimits, () => undefined);
  const tokens = tokenService({ ...rooms, guesses, items, limits: defaultLimits });
  const cards = cardService(rooms.cards, items, { cards: { indexCodeGrace_days: 1 }, limits: defaultLimits });
  const unknown = { token: "99000000000" };
  const read = (): Promise<unknown> =>
    cards.batchGetCards(create(CardService.method.batchGetCards.input, { cards: [{ key: { case: "token", value: unknown.token } }, {}] }), testCall("CardService/BatchGetCards"));
  const reveal = (): Promise<unknown> =>
    tokens.batchDetokenize(create(TokenService.method.batchDetokenize.input, { items: [unknown, unknown] }), testCall("TokenService/BatchDetokenize", { purpose: "PAYMENT" }));
  const make = (): Promise<unknown> => tokens.batchTokenize(create(TokenService.method.batchTokenize.input, { requests: [{}, {}] }), testCall("TokenService/BatchTokenize"));
  for (const batches of [
    [read, reveal, make],
    [reveal, make, read],
    [make, read, reveal],
  ]) {
    const results = await Promise.allSettled(batches.map((batch) => batch()));
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected"]);
    expect(results[2]).toMatchObject({ reason: { reason: "LIMIT", limit: "itemsInFlightPerPrincipal" } });
  }
});
