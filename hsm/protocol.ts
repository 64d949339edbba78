import type { HsmErrorClass, KeyDescription, KeyKind, KeyName } from "./hsm.js";

/** What crosses between the main thread and the workers. Handles are hex: they are valid in every thread of the process. */

/** A token that was found. */
export interface TokenPlace {
  readonly serial: string;
  /** Slot handle, hex. */
  readonly slot: string;
}

/**
 * An operation of which the answer is known: it shows that a handle leads to the same key as the token's original. AES: a
 * ciphertext of `PROBE_TEXT` made by the original. HMAC: the MAC of it. Ed25519: the public key, which a fresh signature must fit.
 */
export interface Probe {
  readonly kind: KeyKind;
  /** Hex. */
  readonly answer: string;
}

/** A key that the control worker found and verified. */
export interface FoundKey {
  /** Handle of the token object, hex. */
  readonly handle: string;
  readonly description: KeyDescription;
  readonly probe: Probe;
}

/** What the control worker does; each method takes one message and answers with one. */
export interface ControlCalls {
  initialize(place: { library: string; provider: string; tokenLabel: string }): TokenPlace;
  /** Whether the PIN was accepted. */
  login(input: { pin: string }): boolean;
  /** `before`: the known answer that the key gave when it was opened first, which it must give still. */
  openKey(input: KeyName & { before: Probe | undefined }): FoundKey;
  describeKey(name: KeyName): KeyDescription;
  listKeys(input: object): KeyDescription[];
  /** The known-answer operation on the token object; without a key: whether the token answers and the login stands. */
  check(input: { handle: string; probe: Probe } | { handle: undefined }): true;
  generateKey(input: { kind: KeyKind; label: string }): KeyDescription;
  destroyKey(name: KeyName): true;
  finalize(input: object): true;
}

/** What a lane does. */
export interface LaneCalls {
  start(input: { library: string; provider: string; slot: string }): true;
  addKey(input: { index: number; id: string; handle: string; probe: Probe }): true;
  dropKey(input: { index: number }): true;
  /** The known-answer operation on the lane's own handle; without a key: whether a session opens. */
  check(input: { index: number | undefined }): true;
  group(input: { bytes: ArrayBuffer }): GroupAnswer;
  /** Closes the sessions, and the copies with them. The worker stays. */
  stop(input: object): true;
}

export interface GroupAnswer {
  readonly bytes: ArrayBuffer;
  /** In the order of the operations that failed. */
  readonly failures: readonly PlainError[];
}

/** An HsmError on its way between threads. */
export interface PlainError {
  readonly errorClass: HsmErrorClass;
  readonly message: string;
  readonly ckr: string | undefined;
}

/** Any of the two tables of calls above. */
export type Calls<C> = { [K in keyof C]: (input: never) => unknown };

export interface RequestMessage {
  readonly id: number;
  readonly method: string;
  readonly input: unknown;
}

export type ResponseMessage =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly error: PlainError };
