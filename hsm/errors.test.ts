import fc from "fast-check";
import pkcs11 from "pkcs11js";
import { describe, expect, it } from "vitest";
import { ckrOf, classify, toHsmError } from "./errors.js";
import { profileOf } from "./profiles.js";

const profile = profileOf("softhsm2");

describe("errors of PKCS#11", () => {
  it("are named in both forms that pkcs11js throws, and otherwise not at all", () => {
    expect(ckrOf(new pkcs11.Pkcs11Error("Error: CKR_PIN_INCORRECT:160"))).toBe("CKR_PIN_INCORRECT");
    expect(ckrOf(new Error("CKR_ATTRIBUTE_READ_ONLY:16"))).toBe("CKR_ATTRIBUTE_READ_ONLY");
    expect(ckrOf(new Error("CKR_VENDOR_DEFINED:66"))).toBe("CKR_AEAD_DECRYPT_FAILED");
    expect(ckrOf(new Error("CKR_VENDOR_DEFINED:2147483649"))).toBe("CKR_VENDOR_DEFINED:2147483649");
    expect(ckrOf(new TypeError("Argument 0 has wrong type"))).toBeUndefined();
    expect(ckrOf("CKR_OK")).toBeUndefined();
  });

  it.each([
    ["CKR_DEVICE_REMOVED", "device"],
    ["CKR_CRYPTOKI_NOT_INITIALIZED", "device"],
    ["CKR_USER_NOT_LOGGED_IN", "device"],
    ["CKR_SESSION_HANDLE_INVALID", "session"],
    ["CKR_OPERATION_ACTIVE", "session"],
    ["CKR_PIN_LOCKED", "login"],
    ["CKR_ENCRYPTED_DATA_INVALID", "integrity"],
    ["CKR_AEAD_DECRYPT_FAILED", "integrity"],
    ["CKR_GENERAL_ERROR", "ambiguous"],
    ["CKR_DATA_LEN_RANGE", "operation"],
    ["CKR_KEY_FUNCTION_NOT_PERMITTED", "operation"],
    [undefined, "operation"],
  ] as const)("%s is of class %s", (ckr, errorClass) => {
    expect(classify(ckr, profile)).toBe(errorClass);
  });

  it("never carry a foreign text on in their message", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 4 }), (secret) => {
        const { message } = toHsmError("C_Login", new Error(`pin ${secret}`), profile);
        expect(message).toBe("C_Login: not a PKCS#11 error");
      }),
    );
  });
});
