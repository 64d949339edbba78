import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { RandomPool } from "../../hsm/random-pool.js";
import { luhnCheckDigit, passesLuhn } from "../cards/luhn.js";
import { Pan } from "../cards/pan.js";
import { newNumericToken, newOpaqueToken, parseToken } from "./token-format.js";

// Only the form is looked at here; test/vault draws from the HSM.
const random = new RandomPool({ random: (length) => Promise.resolve(randomBytes(length)) });

describe("opaque tokens", () => {
  it("are tok_ and 32 letters, no two alike, and read back", async () => {
    const tokens = new Set<string>();
    for (let i = 0; i < 2000; i++) tokens.add(await newOpaqueToken(random));
    expect(tokens.size).toBe(2000);
    for (const token of tokens) {
      expect(token).toMatch(/^tok_[a-z2-7]{32}$/);
      expect(parseToken(token)).toBe(token);
    }
  });

  it("with any one letter changed are found malformed, but for one in 65,536", async () => {
    const token = await newOpaqueToken(random);
    let passed = 0;
    for (let i = 4; i < token.length; i++) {
      for (const letter of "abcdefghijklmnopqrstuvwxyz234567") {
        if (letter === token[i]) continue;
        try {
          parseToken(token.slice(0, i) + letter + token.slice(i + 1));
          passed += 1;
        } catch {
          // Found, as it should be.
        }
      }
    }
    expect(passed).toBeLessThan(3);
  });

  it("are refused in any other form, never echoed: a PAN, an index code, upper case, cut, padded, Unicode", async () => {
    const token = await newOpaqueToken(random);
    for (const text of ["", "4111111111111111", token.toUpperCase(), token.slice(0, -1), `${token}a`, ` ${token}`, `${token}\n`, "tok_", "99", `tok_${"é".repeat(32)}`]) {
      expect(() => parseToken(text), text).toThrow(/^token: (is required|is not a token)/);
    }
  });
});

describe("numeric tokens (PCI Tokenization Guidelines)", () => {
  it("have at least 9 random digits: shorter PANs are refused", async () => {
    const pan = (length: number) => Pan.parse(`${"4".padEnd(length - 1, "1")}${luhnCheckDigit("4".padEnd(length - 1, "1"))}`);
    await expect(newNumericToken(random, pan(10), false)).rejects.toMatchObject({ reason: "INVALID_FIELD" });
    expect(await newNumericToken(random, pan(11), false)).toHaveLength(11);
    await expect(newNumericToken(random, pan(14), true)).rejects.toMatchObject({ reason: "INVALID_FIELD" });
    expect(await newNumericToken(random, pan(15), true)).toHaveLength(15);
  });

  it("never pass Luhn, so that nobody takes one for a PAN", async () => {
    const pan = Pan.parse("4111111111111111");
    for (let i = 0; i < 500; i++) expect(passesLuhn(await newNumericToken(random, pan, i % 2 === 0))).toBe(false);
  });
});
