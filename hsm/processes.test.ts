import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { workInSecondProcess } from "../test/support/second-process.js";
import { CountingGuard, freshToken, silentObserver, type FreshToken } from "../test/support/token.js";
import { openHsm } from "./driver.js";
import type { Hsm, KeyMaker } from "./hsm.js";
import type { SecondProcessOrder } from "./second-process.js";

const text = Buffer.from("text");
const aad = "aad";

/** Takes the same file locks as SoftHSM does, so that SoftHSM waits for them inside a call. */
const lockFiles = [
  "import fcntl, sys",
  "files = [open(path, 'r+') for path in sys.argv[1:]]",
  "for file in files: fcntl.lockf(file, fcntl.LOCK_EX)",
  "print('held', flush=True)",
  "sys.stdin.read()",
].join("\n");
const noPython = spawnSync("python3", ["-c", "import fcntl"]).status !== 0;

describe("an HSM and several processes", () => {
  let token: FreshToken;
  let hsm: (Hsm & KeyMaker) | undefined;
  let locker: ChildProcess | undefined;

  const inSecondProcess = (work: SecondProcessOrder["work"]) => workInSecondProcess(token.options, work);

  beforeEach(async () => {
    token = await freshToken({ call_ms: 2000 });
  });

  afterEach(async () => {
    if (locker !== undefined && locker.exitCode === null) {
      locker.stdin?.end();
      await once(locker, "exit");
    }
    await hsm?.close();
    await token.close();
  });

  it("lets two processes work with the same keys at the same time, a key made a moment ago included", async () => {
    hsm = await openHsm(token.options, new CountingGuard(), silentObserver);
    const aes = await hsm.openKey(await hsm.generateKey("aes-256-gcm", "aes"));
    const hmac = await hsm.openKey(await hsm.generateKey("hmac-sha-256", "hmac"));
    const sealed = Buffer.from(await hsm.encrypt(aes, text, Buffer.from(aad))).toString("hex");
    const answer = await inSecondProcess({ kind: "reseal", aes, hmac, sealed, aad });
    expect(answer["mac"]).toBe(Buffer.from(await hsm.mac(hmac, text)).toString("hex"));
    expect(Buffer.from(await hsm.decrypt(aes, Buffer.from(answer["sealed"] ?? "", "hex"), Buffer.from(aad)))).toEqual(text);
  });

  it("notices by its health check that another process destroyed a key, of which it holds a copy that works on", async () => {
    hsm = await openHsm(token.options, new CountingGuard(), silentObserver);
    const opened = hsm;
    const name = await hsm.generateKey("hmac-sha-256", "destroyed elsewhere");
    const key = await hsm.openKey(name);
    await inSecondProcess({ kind: "destroy", name });
    await hsm.health();
    await vi.waitUntil(async () => (await opened.health()).state === "ready", { timeout: 30_000 });
    await expect(hsm.mac(key, text)).rejects.toMatchObject({ errorClass: "key" });
  });

  it("tries a PIN that was changed meanwhile once in recovery, and never again", async () => {
    const guard = new CountingGuard();
    hsm = await openHsm(token.options, guard, silentObserver);
    const opened = hsm;
    const key = await hsm.openKey(await hsm.generateKey("hmac-sha-256", "hmac"));
    await inSecondProcess({ kind: "set-pin", pin: "a new PIN" });
    await rename(join(token.directory, "tokens"), join(token.directory, "gone"));
    expect((await hsm.health()).state).toBe("recovering");
    await rename(join(token.directory, "gone"), join(token.directory, "tokens"));
    await vi.waitUntil(async () => (await opened.health()).state === "login-refused", { timeout: 30_000 });
    await expect(hsm.mac(key, text)).rejects.toMatchObject({ errorClass: "login" });
    await expect(hsm.openKey(key)).rejects.toMatchObject({ errorClass: "login" });
    expect((await hsm.health()).state).toBe("login-refused");
    expect(guard.attempts).toBe(2);
  });

  it.skipIf(noPython)("fails with class timeout and tells the observer when a native call hangs", async () => {
    let hung = 0;
    hsm = await openHsm(token.options, new CountingGuard(), { hung: () => (hung += 1), stateChanged: () => undefined });
    // A signing key is used on the token itself, which SoftHSM locks and reads at each use.
    const key = await hsm.openKey(await hsm.generateKey("ed25519", "signing"));
    const folder = join(token.directory, "tokens", (await readdir(join(token.directory, "tokens")))[0] ?? "");
    const files = (await readdir(folder)).filter((name) => name.endsWith(".object")).map((name) => join(folder, name));
    locker = spawn("python3", ["-c", lockFiles, ...files], { stdio: ["pipe", "pipe", "ignore"] });
    if (locker.stdout !== null) await once(locker.stdout, "data");
    await expect(hsm.sign(key, text)).rejects.toMatchObject({ errorClass: "timeout" });
    expect(hung).toBe(1);
    expect((await hsm.health()).state).toBe("failed");
    await expect(hsm.random(16)).rejects.toMatchObject({ errorClass: "timeout" });
  });
});
