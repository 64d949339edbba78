import { openSync } from "node:fs";
import { chmod, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readPin } from "./pin.js";

describe("reading the PIN", () => {
  let directory: string;
  let pinFile: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "cardex-pin-"));
    pinFile = join(directory, "pin");
    await writeFile(pinFile, "a pin 42\n", { mode: 0o600 });
  });

  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  it("takes it from a file without the newline, and never shows it", async () => {
    const pin = await readPin({ pinFile });
    expect(pin.open()).toBe("a pin 42");
    expect(`${String(pin)} ${JSON.stringify(pin)} ${inspect(pin)}`).not.toContain("42");
  });

  it.each([0o640, 0o604, 0o666, 0o620])("refuses a file of mode %o", async (mode) => {
    await chmod(pinFile, mode);
    await expect(readPin({ pinFile })).rejects.toThrow(`chmod 600 ${pinFile}`);
  });

  it("refuses a link, a folder, an empty file, a long one, one of two lines, and none, without telling what is in it", async () => {
    await symlink(pinFile, join(directory, "link"));
    await expect(readPin({ pinFile: join(directory, "link") })).rejects.toThrow("symbolic link");
    await expect(readPin({ pinFile: directory })).rejects.toThrow("not a regular file");
    await expect(readPin({ pinFile: join(directory, "none") })).rejects.toThrow("ENOENT");
    for (const text of ["", "\n", "two\nlines\n", "x".repeat(256)]) {
      await writeFile(pinFile, text);
      await expect(readPin({ pinFile })).rejects.toThrow(/holds (no PIN|more than)/);
    }
    await expect(readPin({})).rejects.toThrow("hsm.pinFile");
  });

  it("takes it from an open descriptor and closes that", async () => {
    const pinDescriptor = openSync(pinFile, "r");
    expect((await readPin({ pinDescriptor })).open()).toBe("a pin 42");
    await expect(readPin({ pinDescriptor })).rejects.toThrow("no PIN can be read");
  });

  it("asks on a terminal with the echo off, and understands backspace and Ctrl-C", async () => {
    const ask = async (keys: string) => {
      const raw: boolean[] = [];
      const input = Object.assign(new PassThrough(), { isTTY: true as const, setRawMode: (on: boolean) => raw.push(on) });
      const shown: string[] = [];
      const output = { write: (written: string) => shown.push(written) > 0 };
      const answer = readPin({}, { input, output } as unknown as Parameters<typeof readPin>[1]);
      input.write(keys);
      return { answer, raw, shown };
    };
    const typed = await ask("a pim\u007fn 42\r");
    expect((await typed.answer).open()).toBe("a pin 42");
    expect(typed.raw).toEqual([true, false]);
    expect(typed.shown.join("")).toBe("HSM user PIN: \n");
    await expect((await ask("12\u0003")).answer).rejects.toThrow("no PIN was given");
  });
});
