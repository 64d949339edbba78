import { Failure } from "../failure.js";
import { Pan } from "../cards/pan.js";

/**
 * What is encrypted of a card, and to what it is bound.
 *
 * Stored: format (1 byte, 1), key version (4, big-endian), IV (12), ciphertext, tag (16); AES-256-GCM by the HSM. Associated data: the
 * text "cardex pan", format, key version, tenant and card ID, so that a ciphertext in another row, of another tenant or under another
 * version does not decrypt. Plaintext: number of digits (1), the digits in ASCII, the name in UTF-8, zeros up to a multiple of
 * 32 bytes, so that the length tells little of the name.
 */
export interface CardSecret {
  readonly pan: Pan;
  /** Empty where none was given. */
  readonly name: string;
}

const format = 1;
const header_bytes = 5;
const block_bytes = 32;

/** The plaintext to encrypt. Erase it after use. */
export function encodeSecret(secret: CardSecret): Buffer {
  const digits = secret.pan.openDigits();
  const name = Buffer.from(secret.name, "utf8");
  const plain = Buffer.alloc(Math.ceil((1 + digits.length + name.length) / block_bytes) * block_bytes);
  plain.writeUInt8(digits.length, 0);
  plain.write(digits, 1, "ascii");
  name.copy(plain, 1 + digits.length);
  return plain;
}

/** The reverse. @throws Failure INTEGRITY */
export function decodeSecret(plain: Uint8Array): CardSecret {
  const bytes = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
  const length = bytes[0] ?? 0;
  const end = bytes.indexOf(0, 1 + length);
  try {
    return {
      pan: Pan.parse(bytes.toString("ascii", 1, 1 + length)),
      name: bytes.toString("utf8", 1 + length, end === -1 ? bytes.length : end),
    };
  } catch (error) {
    throw new Failure("INTEGRITY", "a stored card does not verify; operators were alerted", { cause: error, inner: "plaintext" });
  }
}

/** Associated data of a card's ciphertext. */
export function associatedData(tenant: string, cardId: string, keyVersion: number): Buffer {
  const version = Buffer.alloc(4);
  version.writeUInt32BE(keyVersion);
  return Buffer.concat([
    Buffer.from("cardex pan", "ascii"),
    Buffer.of(format),
    version,
    Buffer.of(tenant.length),
    Buffer.from(tenant, "ascii"),
    Buffer.from(cardId.replaceAll("-", ""), "hex"),
  ]);
}

/** What is stored, from what the HSM answered. */
export function packSealed(keyVersion: number, encrypted: Uint8Array): Buffer {
  const header = Buffer.alloc(header_bytes);
  header.writeUInt8(format, 0);
  header.writeUInt32BE(keyVersion, 1);
  return Buffer.concat([header, encrypted]);
}

/** The reverse. @throws Failure INTEGRITY */
export function unpackSealed(sealed: Buffer): { readonly keyVersion: number; readonly encrypted: Buffer } {
  if (sealed.length < header_bytes + 12 + block_bytes + 16 || sealed.readUInt8(0) !== format) {
    throw new Failure("INTEGRITY", "a stored card does not verify; operators were alerted", { inner: "format" });
  }
  return { keyVersion: sealed.readUInt32BE(1), encrypted: sealed.subarray(header_bytes) };
}
