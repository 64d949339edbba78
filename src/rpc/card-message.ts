import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { CardKey as CardKeyMessage, CardSchema, MaskedViewSchema } from "../../gen/cardex/v1/card_pb.js";
import type { Call } from "../call.js";
import type { IndexedCard, MaskedCard } from "../cards/card.js";
import { parseIndexCode } from "../cards/index-code.js";
import { invalidField } from "../failure.js";
import type { CardKey } from "../store/cards.js";
import { parseToken } from "../vault/token-format.js";

/** What the caller's role may see of a card; the one place where a masked view gets into an answer. */
export function maskedMessage(call: Call, masked: MaskedCard): MessageInitShape<typeof MaskedViewSchema> | undefined {
  return call.view === "masked" ? { ...masked } : undefined;
}

export function cardMessage(call: Call, card: IndexedCard): MessageInitShape<typeof CardSchema> {
  const masked = maskedMessage(call, card.masked);
  return {
    indexCode: card.indexCode,
    status: card.status,
    ...(masked === undefined ? {} : { masked }),
    version: BigInt(card.version),
    createTime: timestampFromMs(card.createdAt_ms),
    updateTime: timestampFromMs(card.updatedAt_ms),
  };
}

/** @throws Failure INVALID_FIELD */
export function parseCardKey(message: CardKeyMessage | undefined, field = "card"): CardKey {
  switch (message?.key.case) {
    case "indexCode":
      return { indexCode: parseIndexCode(message.key.value, `${field}.index_code`) };
    case "token":
      return { token: parseToken(message.key.value, `${field}.token`) };
    case undefined:
    default:
      throw invalidField(field, "is required: an index_code or a token");
  }
}
