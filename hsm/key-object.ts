import { createHash } from "node:crypto";
import { KeyType, ObjectClass, type Session, type SessionObject } from "graphene-pk11";
import { HsmError, type KeyDescription, type KeyKind, type KeyName } from "./hsm.js";
import { mac, PROBE_TEXT, type Place } from "./operations.js";
import type { Profile } from "./profiles.js";
import { classOf, keyPairTemplates, secretKeyTemplate, usagesAskedOf } from "./templates.js";

/** Token objects of a class, all of them or those with one CKA_ID. Copies are session objects, so CKA_TOKEN true leaves them out. */
export function findKeys(session: Session, objectClass: ObjectClass, id?: string): SessionObject[] {
  const known = id === undefined ? {} : { id: Buffer.from(id, "hex") };
  return [...session.find({ class: objectClass, token: true, ...known })];
}

/** The token object of a key: exactly one. @throws HsmError "key" for none or several */
export function findKey(session: Session, name: KeyName, objectClass = classOf(name.kind)): SessionObject {
  const [object, ...more] = findKeys(session, objectClass, name.id);
  if (object === undefined) throw new HsmError("key", `key ${name.id} (${name.kind}) is not on the token`);
  if (more.length > 0) throw new HsmError("key", `key ${name.id} (${name.kind}) is on the token ${more.length + 1} times`);
  return object;
}

/** The attributes of a key object, or of a copy of it, without those that need an operation. */
export function readAttributes(object: SessionObject, kind: KeyKind): Omit<KeyDescription, "checkValue" | "publicKey"> {
  const usages = usagesAskedOf(kind);
  const read = object.getAttribute({
    id: null,
    label: null,
    local: null,
    sensitive: null,
    alwaysSensitive: null,
    extractable: null,
    neverExtractable: null,
    ...(kind === "ed25519" ? {} : { valueLen: null }),
    ...Object.fromEntries(usages.map((usage) => [usage, null])),
  });
  return {
    id: read.id?.toString("hex") ?? "",
    kind,
    label: read.label ?? "",
    length_bits: kind === "ed25519" ? 256 : (read.valueLen ?? 0) * 8,
    local: read.local === true,
    sensitive: read.sensitive === true,
    alwaysSensitive: read.alwaysSensitive === true,
    extractable: read.extractable !== false,
    neverExtractable: read.neverExtractable === true,
    usages: usages.filter((usage) => read[usage] === true),
  };
}

/** Whether an object is a token object, not a session object. */
export function isTokenObject(object: SessionObject): boolean {
  return object.getAttribute({ token: null }).token === true;
}

/** All of KeyDescription, from the token object and, for an HMAC key, one operation. */
export function describe(place: Place, object: SessionObject, kind: KeyKind): KeyDescription {
  const attributes = readAttributes(object, kind);
  switch (kind) {
    case "aes-256-gcm": {
      const { checkValue } = object.getAttribute({ checkValue: null });
      return { ...attributes, checkValue: checkValue?.toString("hex") ?? "" };
    }
    case "hmac-sha-256":
      return { ...attributes, checkValue: mac(place, object.handle, PROBE_TEXT).subarray(0, 8).toString("hex") };
    case "ed25519": {
      const publicKey = readPublicKey(findKey(place.session, { id: attributes.id, kind }, ObjectClass.PUBLIC_KEY), place.profile);
      const checkValue = createHash("sha256").update(publicKey).digest().subarray(0, 8).toString("hex");
      return { ...attributes, checkValue, publicKey: publicKey.toString("hex") };
    }
  }
}

function readPublicKey(object: SessionObject, { ed25519 }: Profile): Buffer {
  const point = object.getAttribute({ pointEC: null }).pointEC ?? Buffer.alloc(0);
  const publicKey = point.subarray(ed25519.pointPrefix_bytes);
  if (publicKey.length !== 32) throw new HsmError("key", `an Ed25519 public key on the token has ${publicKey.length} bytes`);
  return publicKey;
}

/** The kind of a secret or private key object by its CKA_KEY_TYPE; undefined for one that Cardex does not make. */
export function kindOf(object: SessionObject, { ed25519 }: Profile): KeyKind | undefined {
  const { keyType } = object.getAttribute({ keyType: null });
  if (keyType === KeyType.AES) return "aes-256-gcm";
  if (keyType === KeyType.GENERIC_SECRET) return "hmac-sha-256";
  return keyType === ed25519.keyType ? "ed25519" : undefined;
}

/** Makes a key on the token, every attribute stated. */
export function generate({ session, profile }: Place, kind: KeyKind, id: Buffer, label: string): SessionObject {
  if (kind === "ed25519") {
    const { publicKey, privateKey } = keyPairTemplates(id, label, profile);
    return session.generateKeyPair(profile.ed25519.generate, publicKey, privateKey).privateKey;
  }
  const mechanism = kind === "aes-256-gcm" ? "AES_KEY_GEN" : "GENERIC_SECRET_KEY_GEN";
  return session.generateKey(mechanism, secretKeyTemplate(kind, id, label, profile));
}

/** Takes a key off the token. */
export function destroy(session: Session, name: KeyName): void {
  findKey(session, name).destroy();
  if (name.kind === "ed25519") findKey(session, name, ObjectClass.PUBLIC_KEY).destroy();
}
