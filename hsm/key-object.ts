import { createHash } from "node:crypto";
import pkcs11 from "pkcs11js";
import { HsmError, type KeyDescription, type KeyKind, type KeyName } from "./hsm.js";
import { mac, PROBE_TEXT, type Place } from "./operations.js";
import { classOf, usageAttributes, usagesAskedOf } from "./templates.js";

/** Handles of the token objects of a class with this CKA_ID. Copies are session objects, so CKA_TOKEN true leaves them out. */
function find({ library, session }: Place, template: pkcs11.Template): Buffer[] {
  library.C_FindObjectsInit(session, template);
  try {
    const found: Buffer[] = [];
    for (;;) {
      const some = library.C_FindObjects(session, 100);
      if (some.length === 0) return found;
      found.push(...some);
    }
  } finally {
    library.C_FindObjectsFinal(session);
  }
}

/** Token objects of a class, all of them or those with one CKA_ID. */
export function findKeys(place: Place, objectClass: number, id?: string): Buffer[] {
  const template: pkcs11.Template = [
    { type: pkcs11.CKA_CLASS, value: objectClass },
    { type: pkcs11.CKA_TOKEN, value: true },
  ];
  if (id !== undefined) template.push({ type: pkcs11.CKA_ID, value: Buffer.from(id, "hex") });
  return find(place, template);
}

/** The token object of a key: exactly one. @throws HsmError "integrity" for none or several */
export function findKey(place: Place, name: KeyName, objectClass = classOf(name.kind)): Buffer {
  const [handle, ...more] = findKeys(place, objectClass, name.id);
  if (handle === undefined) throw new HsmError("integrity", `key ${name.id} (${name.kind}) is not on the token`);
  if (more.length > 0) throw new HsmError("integrity", `key ${name.id} (${name.kind}) is on the token ${more.length + 1} times`);
  return handle;
}

function read({ library, session }: Place, handle: Buffer, type: number): Buffer {
  const value = library.C_GetAttributeValue(session, handle, [{ type }])[0]?.value;
  return Buffer.isBuffer(value) ? value : Buffer.alloc(0);
}

function readFlag(place: Place, handle: Buffer, type: number): boolean {
  return read(place, handle, type)[0] === 1;
}

/** A CK_ULONG: native byte order, 4 or 8 bytes. All platforms that Node runs on with PKCS#11 are little-endian. */
function readNumber(place: Place, handle: Buffer, type: number): number {
  const value = read(place, handle, type);
  return value.length === 0 ? 0 : value.readUIntLE(0, Math.min(value.length, 6));
}

/** The attributes of a key object, or of a copy of it, without those that need an operation. */
export function readAttributes(place: Place, handle: Buffer, kind: KeyKind): Omit<KeyDescription, "checkValue" | "publicKey"> {
  return {
    id: read(place, handle, pkcs11.CKA_ID).toString("hex"),
    kind,
    label: read(place, handle, pkcs11.CKA_LABEL).toString("utf8"),
    length_bits: kind === "ed25519" ? 256 : readNumber(place, handle, pkcs11.CKA_VALUE_LEN) * 8,
    local: readFlag(place, handle, pkcs11.CKA_LOCAL),
    sensitive: readFlag(place, handle, pkcs11.CKA_SENSITIVE),
    alwaysSensitive: readFlag(place, handle, pkcs11.CKA_ALWAYS_SENSITIVE),
    extractable: readFlag(place, handle, pkcs11.CKA_EXTRACTABLE),
    neverExtractable: readFlag(place, handle, pkcs11.CKA_NEVER_EXTRACTABLE),
    usages: usagesAskedOf(kind).filter((usage) => readFlag(place, handle, usageAttributes[usage] ?? 0)),
  };
}

/** Whether an object is a token object, not a session object. */
export function isTokenObject(place: Place, handle: Buffer): boolean {
  return readFlag(place, handle, pkcs11.CKA_TOKEN);
}

/** All of KeyDescription, from the token object and, for an HMAC key, one operation. */
export function describe(place: Place, handle: Buffer, kind: KeyKind): KeyDescription {
  const attributes = readAttributes(place, handle, kind);
  if (kind === "ed25519") {
    const point = read(place, findKey(place, { id: attributes.id, kind }, pkcs11.CKO_PUBLIC_KEY), pkcs11.CKA_EC_POINT);
    const publicKey = point.subarray(place.profile.ed25519.pointPrefix_bytes);
    if (publicKey.length !== 32) throw new HsmError("integrity", `key ${attributes.id}: its public key has ${publicKey.length} bytes`);
    const checkValue = createHash("sha256").update(publicKey).digest().subarray(0, 8).toString("hex");
    return { ...attributes, checkValue, publicKey: publicKey.toString("hex") };
  }
  const checkValue =
    kind === "aes-256-gcm" ? read(place, handle, pkcs11.CKA_CHECK_VALUE) : mac(place, handle, PROBE_TEXT).subarray(0, 8);
  return { ...attributes, checkValue: checkValue.toString("hex") };
}

/** The kind of a secret or private key object by its CKA_KEY_TYPE; undefined for one that Cardex does not make. */
export function kindOf(place: Place, handle: Buffer): KeyKind | undefined {
  const keyType = readNumber(place, handle, pkcs11.CKA_KEY_TYPE);
  if (keyType === pkcs11.CKK_AES) return "aes-256-gcm";
  if (keyType === pkcs11.CKK_GENERIC_SECRET) return "hmac-sha-256";
  return keyType === place.profile.ed25519.keyType ? "ed25519" : undefined;
}
