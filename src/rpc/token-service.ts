import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  BatchDetokenizeResultSchema,
  BatchTokenizeResultSchema,
  type DetokenizeItem as DetokenizeItemMessage,
  DetokenizeResponseSchema,
  type TokenizeRequest as TokenizeMessage,
  TokenizeResponseSchema,
  TokenReuse,
  type TokenSchema,
  type TokenService,
  TokenStatus,
} from "../../gen/cardex/v1/token_service_pb.js";
import type { GuessLimit } from "../access/guess-limit.js";
import type { ItemsInFlight } from "../access/in-flight.js";
import type { Settled } from "../batcher.js";
import type { Call } from "../call.js";
import type { CardIndex } from "../cards/card-index.js";
import type { Limits } from "../config.js";
import { Failure, notFound } from "../failure.js";
import { parseRequestId } from "../keys/request-claim.js";
import type { TokenDescription } from "../store/tokens.js";
import type { DetokenizeItem, Detokenizer, Revealed } from "../vault/detokenize.js";
import { parseToken } from "../vault/token-format.js";
import type { TokenRecords } from "../vault/token-records.js";
import type { Tokenizer } from "../vault/tokenize.js";
import type { TokenizeAnswer, TokenizeRequest } from "../vault/tokenize-request.js";
import { maskedMessage, parseCardKey } from "./card-message.js";
import type { ServiceHandlers } from "./handler.js";
import { checkBatch, parsePageSize } from "./parse-fields.js";
import { parseScope, parseTokenize } from "./parse-tokenize.js";
import { toItemError } from "./status.js";

export interface TokenServiceParts {
  readonly tokenizer: Tokenizer;
  readonly detokenizer: Detokenizer;
  readonly records: TokenRecords;
  readonly cards: CardIndex;
  readonly guesses: GuessLimit;
  readonly items: ItemsInFlight;
  readonly limits: Limits;
}

/** TokenService: messages in, messages out; what it does is in vault/. */
export function tokenService(parts: TokenServiceParts): ServiceHandlers<typeof TokenService> {
  const { tokenizer, detokenizer, records, cards, guesses, items, limits } = parts;

  const readTokenize = (call: Call, message: TokenizeMessage): TokenizeRequest => {
    const request = parseTokenize(message);
    const { bin, lastFour } = request.pan.truncated;
    guesses.take(call.principal, `${request.pan.length}.${bin}.${lastFour}`);
    return request;
  };

  return {
    tokenize: async (message, call) => {
      const request = readTokenize(call, message);
      call.requestId = request.requestId;
      return tokenizeMessage(call, valueOf((await tokenizer.tokenize(call, [request]))[0]));
    },

    batchTokenize: async (message, call) => {
      checkBatch(message.requests, "requests", limits.batchItems);
      const results = await items.during(call.principal.id, message.requests.length, () =>
        tokenizer.tokenize(
          call,
          message.requests.map((item) => orFailure(() => readTokenize(call, item))),
        ),
      );
      return {
        results: results.map((result) =>
          create(BatchTokenizeResultSchema, {
            result: result.ok
              ? { case: "response", value: create(TokenizeResponseSchema, tokenizeMessage(call, result.value)) }
              : { case: "error", value: toItemError(result.error) },
          }),
        ),
      };
    },

    detokenize: async (message, call) => {
      const item = readDetokenize(message);
      call.requestId = item.requestId;
      return revealedMessage(valueOf((await detokenizer.detokenize(call, purposeOf(call), [item]))[0]));
    },

    batchDetokenize: async (message, call) => {
      checkBatch(message.items, "items", limits.batchItems);
      const results = await items.during(call.principal.id, message.items.length, () =>
        detokenizer.detokenize(
          call,
          purposeOf(call),
          message.items.map((item) => orFailure(() => readDetokenize(item))),
        ),
      );
      return {
        results: results.map((result) =>
          create(BatchDetokenizeResultSchema, {
            result: result.ok
              ? { case: "response", value: create(DetokenizeResponseSchema, revealedMessage(result.value)) }
              : { case: "error", value: toItemError(result.error) },
          }),
        ),
      };
    },

    getToken: async (message, call) => ({ token: tokenMessage(await records.describe(call, parseToken(message.token))) }),

    listTokens: async (message, call) => {
      const key = parseCardKey(message.card);
      const scope = parseScope(message.scope, "scope");
      const pageSize = parsePageSize(message.pageSize, limits.pageSize);
      if (!(await cards.mayBe(call, key))) throw notFound("unknown");
      call.resources = [{ ...key }];
      const card = await cards.find(call, key);
      if (card === undefined) throw notFound("unknown");
      call.resources = [{ ...key, card: card.card_id }];
      const page = await records.list({ tenant: card.tenant, cardId: card.card_id }, scope, pageSize, message.pageToken);
      return { tokens: page.tokens.map(tokenMessage), nextPageToken: page.next };
    },

    revokeToken: async (message, call) => {
      const token = parseToken(message.token);
      call.requestId = parseRequestId(message.requestId);
      return { token: tokenMessage(await records.revoke(call, token, call.requestId)) };
    },
  };
}

function readDetokenize(message: Pick<DetokenizeItemMessage, "token" | "requestId">): DetokenizeItem {
  return { token: parseToken(message.token), requestId: parseRequestId(message.requestId) };
}

/** The edge has found the purpose valid before it decided. */
function purposeOf(call: Call): string {
  if (call.purpose === undefined) throw new Error("a reveal without a purpose");
  return call.purpose;
}

/** What was wrong with one item is that item's result. */
function orFailure<T>(parse: () => T): T | Failure {
  try {
    return parse();
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
}

function valueOf<T>(result: Settled<T> | undefined): T {
  if (result === undefined) throw new Error("no result");
  if (!result.ok) throw result.error;
  return result.value;
}

function tokenizeMessage(call: Call, answer: TokenizeAnswer): MessageInitShape<typeof TokenizeResponseSchema> {
  const masked = maskedMessage(call, answer.masked);
  return {
    token: answer.token,
    indexCode: answer.indexCode,
    ...(masked === undefined ? {} : { masked }),
    cardKnown: answer.cardKnown,
    ...(answer.expiresAt_ms === null ? {} : { expireTime: timestampFromMs(answer.expiresAt_ms) }),
  };
}

/** The one place where a PAN is put into an answer. */
function revealedMessage(revealed: Revealed): MessageInitShape<typeof DetokenizeResponseSchema> {
  return {
    pan: revealed.secret.pan.openDigits(),
    expiry: { ...revealed.expiry },
    cardholderName: revealed.secret.name,
    status: revealed.status,
  };
}

function tokenMessage(row: TokenDescription): MessageInitShape<typeof TokenSchema> {
  return {
    token: row.token,
    status: tokenStatus(row),
    format: row.format,
    keepLastFour: row.keep_last_four,
    scope: row.scope,
    reuse: row.reused ? TokenReuse.SAME_CARD_AND_SCOPE : TokenReuse.ALWAYS_NEW,
    externalReference: row.external_reference,
    indexCode: row.index_code,
    createTime: timestampFromDate(row.created_at),
    ...(row.expires_at === null ? {} : { expireTime: timestampFromDate(row.expires_at) }),
    maxUses: row.uses_max,
    remainingUses: row.uses_left,
    ...(row.revoked_at === null ? {} : { revokeTime: timestampFromDate(row.revoked_at) }),
  };
}

function tokenStatus(row: TokenDescription): TokenStatus {
  if (row.revoked_at !== null) return TokenStatus.REVOKED;
  if (row.expired) return TokenStatus.EXPIRED;
  return row.uses_max > 0 && row.uses_left === 0 ? TokenStatus.USED_UP : TokenStatus.ACTIVE;
}
