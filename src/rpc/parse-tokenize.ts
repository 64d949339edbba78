import {
  TokenFormat,
  type TokenizeRequest as TokenizeMessage,
  type TokenOptions,
  TokenReuse,
} from "../../gen/cardex/v1/token_service_pb.js";
import { parseExpiry } from "../cards/expiry.js";
import { parseCardholderName, parseReference, refuseCardData } from "../cards/free-text.js";
import { Pan } from "../cards/pan.js";
import { invalidField } from "../failure.js";
import { parseRequestId } from "../keys/request-claim.js";
import { checkNumericLength, tokenFormats } from "../vault/token-format.js";
import type { TokenizeRequest } from "../vault/tokenize-request.js";
import { FieldParser, parseSeconds } from "./parse-fields.js";

const tenYears_s = 10 * 366 * 86_400;
const uses_most = 1_000_000;

/** One Tokenize request, every field checked, all faults reported together. @throws Failure INVALID_FIELD */
export function parseTokenize(message: TokenizeMessage): TokenizeRequest {
  const parser = new FieldParser();
  const { options } = message;
  const requestId = parser.read(() => parseRequestId(message.requestId));
  const pan = parser.read(() => Pan.parse(message.pan));
  const expiry = parser.read(() => parseExpiry(message.expiry));
  const name = parser.read(() => parseCardholderName(message.cardholderName));
  const externalReference = parser.read(() => parseReference(message.externalReference, "external_reference"));
  const format = parser.read(() => parseFormat(options));
  const scope = parser.read(() => parseScope(options?.scope ?? ""));
  const reused = parser.read(() => parseReuse(options));
  const ttl_s = parser.read(() => (options?.ttl === undefined ? undefined : parseSeconds(options.ttl, "options.ttl", 1, tenYears_s, "1 second to 10 years")));
  const uses_max = parser.read(() => parseUses(options?.maxUses ?? 0));
  const keepLastFour = options?.keepLastFour ?? false;
  if (pan !== undefined && format === tokenFormats.numeric) parser.read(() => checkNumericLength(pan, keepLastFour));
  if (keepLastFour && format === tokenFormats.opaque) parser.read(() => refuse("options.keep_last_four", "goes with NUMERIC only"));
  if (reused === true && (options?.ttl !== undefined || uses_max !== 0)) {
    parser.read(() => refuse("options.reuse", "SAME_CARD_AND_SCOPE does not go with ttl or max_uses"));
  }
  parser.finish();
  // `finish` throws if any of these is wrong.
  return {
    requestId,
    pan: pan as Pan,
    expiry: expiry as TokenizeRequest["expiry"],
    name: name as string,
    externalReference: externalReference as string,
    format: format as TokenizeRequest["format"],
    keepLastFour,
    scope: scope as string,
    reused: reused as boolean,
    ttl_s,
    uses_max: uses_max as number,
  };
}

/** A scope, or empty. @throws Failure INVALID_FIELD */
export function parseScope(text: string, field = "options.scope"): string {
  if (text !== "" && !/^[a-z0-9][a-z0-9._-]{0,63}$/.test(text)) {
    throw invalidField(field, "must be 1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit");
  }
  refuseCardData(text, field);
  return text;
}

function parseFormat(options: TokenOptions | undefined): TokenizeRequest["format"] {
  switch (options?.format ?? TokenFormat.UNSPECIFIED) {
    case TokenFormat.UNSPECIFIED:
    case TokenFormat.OPAQUE:
      return tokenFormats.opaque;
    case TokenFormat.NUMERIC:
      return tokenFormats.numeric;
    default:
      throw invalidField("options.format", "is not a format that this server knows");
  }
}

function parseReuse(options: TokenOptions | undefined): boolean {
  switch (options?.reuse ?? TokenReuse.UNSPECIFIED) {
    case TokenReuse.UNSPECIFIED:
    case TokenReuse.ALWAYS_NEW:
      return false;
    case TokenReuse.SAME_CARD_AND_SCOPE:
      return true;
    default:
      throw invalidField("options.reuse", "is not a choice that this server knows");
  }
}

function parseUses(uses: number): number {
  if (uses < 0 || uses > uses_most) throw invalidField("options.max_uses", "must be 1 to 1,000,000, or 0 for no limit");
  return uses;
}

function refuse(field: string, description: string): never {
  throw invalidField(field, description);
}
