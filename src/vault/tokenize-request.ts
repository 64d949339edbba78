import type { Expiry } from "../cards/expiry.js";
import type { MaskedCard } from "../cards/card.js";
import type { Pan } from "../cards/pan.js";
import type { TokenFormat } from "./token-format.js";

/** One PAN to tokenize; every field was found valid at the edge. */
export interface TokenizeRequest {
  readonly requestId: string | undefined;
  readonly pan: Pan;
  readonly expiry: Expiry;
  /** Empty: none. */
  readonly name: string;
  readonly externalReference: string;
  readonly format: TokenFormat;
  readonly keepLastFour: boolean;
  /** Empty: none. */
  readonly scope: string;
  readonly reused: boolean;
  /** Seconds; undefined: no end. */
  readonly ttl_s: number | undefined;
  /** 0: no limit. */
  readonly uses_max: number;
}

/** What Tokenize answers. Plain data, so that a kept answer reads back as it was; no PAN in it. */
export interface TokenizeAnswer {
  readonly token: string;
  readonly indexCode: string;
  readonly cardId: string;
  readonly masked: MaskedCard;
  readonly cardKnown: boolean;
  readonly expiresAt_ms: number | null;
}

/** Everything that must be equal in a repeat of the request, in a fixed form. Holds the PAN: it goes into the HSM's MAC and nowhere else. */
export function requestContent(request: TokenizeRequest): string {
  return JSON.stringify([
    request.pan.openDigits(),
    request.expiry.year,
    request.expiry.month,
    request.name,
    request.externalReference,
    request.format,
    request.keepLastFour,
    request.scope,
    request.reused,
    request.ttl_s ?? null,
    request.uses_max,
  ]);
}
