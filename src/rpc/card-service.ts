import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { CardStatus } from "../../gen/cardex/v1/card_pb.js";
import { BatchGetCardsResultSchema, type CardService, GetCardResponseSchema } from "../../gen/cardex/v1/card_service_pb.js";
import type { ItemsInFlight } from "../access/in-flight.js";
import type { Call } from "../call.js";
import type { CardAnswer, CardIndex } from "../cards/card-index.js";
import { statusName, type StoredStatus } from "../cards/card-status.js";
import { parseReference } from "../cards/free-text.js";
import type { Config } from "../config.js";
import { Failure, invalidField } from "../failure.js";
import { parseRequestId } from "../keys/request-claim.js";
import { cardMessage, parseCardKey } from "./card-message.js";
import type { ServiceHandlers } from "./handler.js";
import { checkBatch, FieldParser, parseSeconds } from "./parse-fields.js";
import { toItemError } from "./status.js";

const day_s = 86_400;
const grace_days_most = 90;

/** CardService: messages in, messages out; what it does is in cards/. No answer has a field for a PAN. */
export function cardService(cards: CardIndex, items: ItemsInFlight, config: Pick<Config, "cards" | "limits">): ServiceHandlers<typeof CardService> {
  return {
    getCard: async (message, call) => {
      const key = parseCardKey(message.card);
      const [answer] = await cards.getCards(call, [key]);
      if (answer === undefined) throw new Error("no answer");
      if (!answer.ok) throw answer.error;
      return foundMessage(call, answer.value);
    },

    batchGetCards: async (message, call) => {
      checkBatch(message.cards, "cards", config.limits.batchItems);
      const keys = message.cards.map((key) => {
        try {
          return parseCardKey(key);
        } catch (error) {
          if (error instanceof Failure) return error;
          throw error;
        }
      });
      const answers = await items.during(call.principal.id, keys.length, () => cards.getCards(call, keys));
      return {
        results: answers.map((answer) =>
          create(BatchGetCardsResultSchema, {
            result: answer.ok
              ? { case: "response", value: create(GetCardResponseSchema, foundMessage(call, answer.value)) }
              : { case: "error", value: toItemError(answer.error) },
          }),
        ),
      };
    },

    setCardStatus: async (message, call) => {
      const parser = new FieldParser();
      const requestId = parser.read(() => parseRequestId(message.requestId));
      const key = parser.read(() => parseCardKey(message.card));
      const status = parser.read(() => parseStatus(message.status));
      const comment = parser.read(() => parseReference(message.comment, "comment"));
      const expectedVersion = parser.read(() => parseVersion(message.expectedVersion));
      parser.finish();
      if (key === undefined || status === undefined) throw new Error("checked fields are there");
      call.requestId = requestId;
      call.facts = { new_status: statusName(status), ...(comment === undefined || comment === "" ? {} : { comment }) };
      return { card: cardMessage(call, await cards.setStatus(call, { key, requestId, status, comment: comment ?? "", expectedVersion: expectedVersion ?? 0 })) };
    },

    rotateIndexCode: async (message, call) => {
      const parser = new FieldParser();
      const requestId = parser.read(() => parseRequestId(message.requestId));
      const key = parser.read(() => parseCardKey(message.card));
      const grace_s = parser.read(() =>
        message.gracePeriod === undefined
          ? config.cards.indexCodeGrace_days * day_s
          : parseSeconds(message.gracePeriod, "grace_period", 0, grace_days_most * day_s, "0 seconds to 90 days"),
      );
      parser.finish();
      if (key === undefined || grace_s === undefined) throw new Error("checked fields are there");
      call.requestId = requestId;
      const rotated = await cards.rotateIndexCode(call, { key, requestId, grace_s });
      return { card: cardMessage(call, rotated.card), oldIndexCodeExpireTime: timestampFromMs(rotated.oldCodeExpiresAt_ms) };
    },
  };
}

function foundMessage(call: Call, answer: CardAnswer): MessageInitShape<typeof GetCardResponseSchema> {
  return {
    card: cardMessage(call, answer.card),
    ...(answer.oldCodeExpiresAt === undefined ? {} : { indexCodeExpireTime: timestampFromDate(answer.oldCodeExpiresAt) }),
  };
}

function parseStatus(status: CardStatus): StoredStatus {
  switch (status) {
    case CardStatus.ACTIVE:
    case CardStatus.FROZEN:
    case CardStatus.LOST:
    case CardStatus.STOLEN:
    case CardStatus.CLOSED:
      return status;
    case CardStatus.EXPIRED:
      throw invalidField("status", "EXPIRED follows from the expiry and can't be set");
    case CardStatus.UNSPECIFIED:
    default:
      throw invalidField("status", "is required: ACTIVE, FROZEN, LOST, STOLEN or CLOSED");
  }
}

function parseVersion(version: bigint): number {
  if (version < 0n || version > BigInt(Number.MAX_SAFE_INTEGER)) throw invalidField("expected_version", "must be the version of a card, or 0");
  return Number(version);
}
