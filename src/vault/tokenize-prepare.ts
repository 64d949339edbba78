import type { Hsm } from "../../hsm/hsm.js";
import type { RandomPool } from "../../hsm/random-pool.js";
import { v7 as uuidv7 } from "uuid";
import type { Batcher } from "../batcher.js";
import type { Call } from "../call.js";
import { brandOf } from "../cards/brand.js";
import type { MaskedCard } from "../cards/card.js";
import { checkTokenize, type StoredStatus } from "../cards/card-status.js";
import { expiryNumber } from "../cards/expiry.js";
import { codeCandidates, newIndexCode } from "../cards/index-code.js";
import type { Institutions } from "../cards/institution.js";
import type { KeyRing } from "../keys/key-ring.js";
import { makeClaim } from "../keys/request-claim.js";
import { type Fingerprint, fingerprintKey, type KnownCard } from "../store/fingerprints.js";
import type { Claim } from "../store/requests.js";
import { associatedData, encodeSecret, packSealed } from "./sealed-card.js";
import { newNumericToken, newOpaqueToken, tokenFormats } from "./token-format.js";
import { requestContent, type TokenizeRequest } from "./tokenize-request.js";

/** What preparing needs. */
export interface TokenizeParts {
  readonly hsm: Hsm;
  readonly keys: KeyRing;
  readonly random: RandomPool;
  readonly institutions: Institutions;
  /** Finds cards by fingerprint; shared by all that wait. */
  readonly byFingerprint: Batcher<Fingerprint, KnownCard | undefined>;
}

/** A card as it would be sealed. */
export interface SealedForm {
  readonly sealed: Buffer;
  readonly panKeyVersion: number;
}

/** One item after all HSM work: what is left is one transaction. */
export interface PreparedItem {
  readonly request: TokenizeRequest;
  readonly claim: Claim | undefined;
  readonly fingerprint: Fingerprint;
  /** The known card's, or the one that the card gets if it is new. */
  readonly cardId: string;
  readonly known: boolean;
  /** For a new card, and for a known one whose name is given anew. */
  readonly form: SealedForm | undefined;
  readonly masked: MaskedCard;
  readonly codes: readonly string[];
  readonly tokens: readonly string[];
}

/** An item that failed before the transaction; it is only audited, in its place. */
export interface FailedItem {
  readonly failure: unknown;
}

const numericCandidates = 3;

/** The input of the fingerprint: the tenant is part of it, so that tenants' cards can't be compared. */
export function fingerprintInput(tenant: string, digits: string): Buffer {
  return Buffer.from(`cardex fingerprint\n${tenant}\n${digits}`, "ascii");
}

/**
 * Fingerprint, request MAC, look-up, encryption and random numbers of one item; nothing is written.
 * @param newCards IDs of the cards that this call's items may make, by fingerprint: the same PAN twice in a call is one card
 * @throws Failure CARD_STATUS, INVALID_FIELD, KEY_STATE; HsmError
 */
export async function prepareItem(parts: TokenizeParts, call: Call, request: TokenizeRequest, newCards: Map<string, string>): Promise<PreparedItem> {
  const { hsm, keys, random } = parts;
  const { tenant } = call.principal;
  const { key, version } = keys.fingerprint();
  const [mac, claim, tokens] = await Promise.all([
    hsm.mac(key, fingerprintInput(tenant, request.pan.openDigits())),
    request.requestId === undefined ? undefined : makeClaim(hsm, keys, call, request.requestId, requestContent(request)),
    newTokens(random, request),
  ]);
  const fingerprint = { tenant, version, fingerprint: Buffer.from(mac) };
  const known = await parts.byFingerprint.submit(fingerprint);
  // A repeat of a request whose card was stopped since gets its answer all the same: the transaction decides then.
  if (known !== undefined && claim === undefined) checkTokenize(known.status as StoredStatus);
  const cardId = known?.card_id ?? newCards.get(fingerprintKey(fingerprint)) ?? uuidv7();
  if (known === undefined) newCards.set(fingerprintKey(fingerprint), cardId);
  const brand = known?.brand ?? brandOf(request.pan.openDigits());
  const [form, codes] = await Promise.all([
    known === undefined || request.name !== "" ? seal(parts, tenant, cardId, request) : undefined,
    known === undefined ? newCodes(parts, tenant, brand) : [],
  ]);
  return {
    request,
    claim,
    fingerprint,
    cardId,
    known: known !== undefined,
    form,
    masked: { ...request.pan.truncated, panLength: request.pan.length, brand, type: known?.type ?? 0, country: known?.country ?? "", expiry: request.expiry },
    codes,
    tokens,
  };
}

/** Whether the card's expiry, as given, is later than a row's. */
export function isLater(item: PreparedItem, expiry: number): boolean {
  return expiryNumber(item.request.expiry) > expiry;
}

async function newTokens(random: RandomPool, request: TokenizeRequest): Promise<string[]> {
  if (request.format === tokenFormats.opaque) return [await newOpaqueToken(random)];
  return Promise.all(Array.from({ length: numericCandidates }, () => newNumericToken(random, request.pan, request.keepLastFour)));
}

async function newCodes(parts: TokenizeParts, tenant: string, brand: number): Promise<string[]> {
  const institution = await parts.institutions.of(tenant);
  return Promise.all(Array.from({ length: codeCandidates }, () => newIndexCode(parts.random, institution, brand)));
}

async function seal(parts: TokenizeParts, tenant: string, cardId: string, request: TokenizeRequest): Promise<SealedForm> {
  const { key, version } = await parts.keys.panForEncrypt(tenant);
  const plain = encodeSecret({ pan: request.pan, name: request.name });
  try {
    return { sealed: packSealed(version, await parts.hsm.encrypt(key, plain, associatedData(tenant, cardId, version))), panKeyVersion: version };
  } finally {
    plain.fill(0);
  }
}
