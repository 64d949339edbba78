import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Secret } from "../src/secret.js";
import { createSoftHsmToken, findSoftHsmLibrary } from "./softhsm.js";

describe("the SoftHSM2 set-up for development", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "cardex-softhsm-"));
  });

  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  const make = (pin = "1234567") => createSoftHsmToken({ directory: join(directory, "hsm"), label: "a label", pin: new Secret(pin), soPin: new Secret("so-7654321") });

  it("makes a token once and finds it afterwards, in a folder that nobody else can enter", async () => {
    const first = await make();
    expect(first.created).toBe(true);
    expect(first.serial).toMatch(/^[0-9a-f]{16}$/);
    const again = await make("another PIN, which changes nothing");
    expect(again).toEqual({ ...first, created: false });
    expect((await stat(join(directory, "hsm"))).mode & 0o077).toBe(0);
    expect((await readdir(join(directory, "hsm", "tokens"))).length).toBe(1);
  });

  it("goes on beside what a killed process left half-made", async () => {
    const tokens = join(directory, "hsm", "tokens");
    await mkdir(join(tokens, "11111111-0000-0000-0000-000000000000"), { recursive: true });
    await mkdir(join(tokens, "22222222-0000-0000-0000-000000000000"));
    await writeFile(join(tokens, "22222222-0000-0000-0000-000000000000", "token.object"), "");
    await mkdir(join(tokens, "33333333-0000-0000-0000-000000000000"));
    await writeFile(join(tokens, "33333333-0000-0000-0000-000000000000", "token.object"), "half of a token");
    await writeFile(join(directory, "hsm", "softhsm2.conf"), "directories.tok");
    expect((await make()).created).toBe(true);
    expect((await make()).created).toBe(false);
    expect(await readdir(join(directory, "hsm", "set-aside"))).toContainEqual(expect.stringMatching(/^33333333/));
  });

  it("never touches a token that holds keys, even if it can't be read", async () => {
    await make();
    const tokens = join(directory, "hsm", "tokens");
    const [name = ""] = await readdir(tokens);
    await writeFile(join(tokens, name, "token.object"), "half of a token");
    await writeFile(join(tokens, name, "44444444-0000-0000-0000-000000000000.object"), "a key");
    await expect(make()).rejects.toThrow("CKR_");
    expect(await readdir(tokens)).toEqual([name]);
  });

  it("says what is wrong when the token can't be made", async () => {
    const wrong = createSoftHsmToken({ directory, label: "l".repeat(33), pin: new Secret("1234"), soPin: new Secret("1234") });
    await expect(wrong).rejects.toThrow("longer than 32 bytes");
    await expect(make("1")).rejects.toThrow("CKR_PIN_LEN_RANGE");
    expect((await make()).created).toBe(true);
  });

  it("finds the library, or names the packages that have it", () => {
    expect(findSoftHsmLibrary()).toMatch(/libsofthsm2\.so$/);
    expect(() => findSoftHsmLibrary(["/nowhere/libsofthsm2.so"])).toThrow("apt-get install softhsm2");
  });
});
