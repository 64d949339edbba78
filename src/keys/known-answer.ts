import { createPublicKey, randomBytes, verify } from "node:crypto";
import { HsmError, type Hsm, type OpenKey } from "../../hsm/hsm.js";
import type { RegisteredKey } from "../store/keys.js";

/** The fixed text of which each key makes its known answer at birth. */
const text = Buffer.from("cardex known answer, version 1");

/** What a new key makes of the fixed text: a ciphertext bound to the key's ID, a MAC, a signature. @throws HsmError */
export async function makeKnownAnswer(hsm: Hsm, key: OpenKey, keyId: string): Promise<Buffer> {
  switch (key.kind) {
    case "aes-256-gcm":
      return Buffer.from(await hsm.encrypt(key, text, Buffer.from(keyId)));
    case "hmac-sha-256":
      return Buffer.from(await hsm.mac(key, text));
    case "ed25519":
      return Buffer.from(await hsm.sign(key, text));
  }
}

/**
 * Whether the key in the HSM is the registered one (PCI DSS 3.7.7): same check value, and it opens or makes its known answer; a
 * signing key signs a fresh text so that the registered public key verifies it.
 * @throws HsmError of any class but "integrity"
 */
export async function isRegisteredKey(hsm: Hsm, key: OpenKey, registered: RegisteredKey): Promise<boolean> {
  if (key.checkValue !== registered.checkValue) return false;
  switch (key.kind) {
    case "aes-256-gcm":
      return await opensKnownAnswer(hsm, key, registered);
    case "hmac-sha-256":
      return Buffer.from(await hsm.mac(key, text)).equals(registered.knownAnswer);
    case "ed25519": {
      const publicKey = ed25519PublicKey(registered.publicKey ?? "");
      const fresh = randomBytes(32);
      return verify(null, text, publicKey, registered.knownAnswer) && verify(null, fresh, publicKey, await hsm.sign(key, fresh));
    }
  }
}

async function opensKnownAnswer(hsm: Hsm, key: OpenKey, registered: RegisteredKey): Promise<boolean> {
  try {
    return text.equals(await hsm.decrypt(key, registered.knownAnswer, Buffer.from(registered.keyId)));
  } catch (error) {
    if (error instanceof HsmError && error.errorClass === "integrity") return false;
    throw error;
  }
}

function ed25519PublicKey(hex: string) {
  const x = Buffer.from(hex, "hex").toString("base64url");
  return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
}
