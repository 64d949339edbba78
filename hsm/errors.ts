import { HsmError, type HsmErrorClass } from "./hsm.js";
import type { Profile } from "./profiles.js";
import type { PlainError } from "./protocol.js";

const device = new Set([
  "CKR_CRYPTOKI_NOT_INITIALIZED",
  "CKR_DEVICE_ERROR",
  "CKR_DEVICE_MEMORY",
  "CKR_DEVICE_REMOVED",
  "CKR_TOKEN_NOT_PRESENT",
  "CKR_TOKEN_NOT_RECOGNIZED",
  "CKR_SLOT_ID_INVALID",
  "CKR_USER_NOT_LOGGED_IN",
  "CKR_LIBRARY_LOAD_FAILED",
  "CKR_HOST_MEMORY",
  "CKR_MUTEX_BAD",
  "CKR_CANT_LOCK",
]);

const session = new Set([
  "CKR_SESSION_HANDLE_INVALID",
  "CKR_SESSION_CLOSED",
  "CKR_SESSION_COUNT",
  "CKR_OPERATION_ACTIVE",
  "CKR_OPERATION_NOT_INITIALIZED",
  "CKR_OBJECT_HANDLE_INVALID",
  "CKR_KEY_HANDLE_INVALID",
]);

const login = new Set([
  "CKR_PIN_INCORRECT",
  "CKR_PIN_INVALID",
  "CKR_PIN_LEN_RANGE",
  "CKR_PIN_EXPIRED",
  "CKR_PIN_LOCKED",
  "CKR_USER_PIN_NOT_INITIALIZED",
]);

const integrity = new Set(["CKR_SIGNATURE_INVALID", "CKR_SIGNATURE_LEN_RANGE"]);

/** CK_RV that pkcs11js has no name for. PKCS#11 v3.0, 2.40 "AES-GCM". */
const unnamed = new Map([["CKR_VENDOR_DEFINED:66", "CKR_AEAD_DECRYPT_FAILED"]]);

/** The CKR name in an error of pkcs11js, which is a Pkcs11Error or a plain `Error("CKR_X:16")`; undefined for any other. */
export function ckrOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const match = /^(CKR_[A-Z0-9_]+)(?::(\d+))?/.exec(error.message);
  if (match?.[1] === undefined) return undefined;
  if (match[1] !== "CKR_VENDOR_DEFINED") return match[1];
  const code = match[2] ?? String((error as { code?: unknown }).code ?? "");
  const name = `CKR_VENDOR_DEFINED:${code}`;
  return unnamed.get(name) ?? name;
}

/** The class of a CKR; "ambiguous" where a known-answer operation has to decide (profile). */
export function classify(ckr: string | undefined, profile: Profile): HsmErrorClass | "ambiguous" {
  if (ckr === undefined) return "operation";
  if (profile.tagErrors.includes(ckr) || integrity.has(ckr)) return "integrity";
  if (profile.ambiguousErrors.includes(ckr)) return "ambiguous";
  if (device.has(ckr)) return "device";
  if (session.has(ckr)) return "session";
  if (login.has(ckr)) return "login";
  return "operation";
}

/**
 * The HsmError for what `what` (a PKCS#11 function or an operation) threw. `ambiguous` says what an ambiguous code means here.
 * The message holds the CKR alone: a foreign text could hold data.
 */
export function toHsmError(what: string, error: unknown, profile: Profile, ambiguous: HsmErrorClass = "device"): HsmError {
  if (error instanceof HsmError) return error;
  const ckr = ckrOf(error);
  const found = classify(ckr, profile);
  return new HsmError(found === "ambiguous" ? ambiguous : found, `${what}: ${ckr ?? "not a PKCS#11 error"}`, { ckr, cause: error });
}

/** For the way between threads, where causes are left behind. */
export function toPlain(error: unknown): PlainError {
  if (error instanceof HsmError) return { errorClass: error.errorClass, message: error.message, ckr: error.ckr };
  return { errorClass: "operation", message: "a fault in the HSM worker", ckr: undefined };
}

/** The reverse of `toPlain`. */
export function fromPlain(plain: PlainError): HsmError {
  return new HsmError(plain.errorClass, plain.message, { ckr: plain.ckr });
}
