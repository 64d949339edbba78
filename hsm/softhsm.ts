import { fork } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { clock } from "../src/clock.js";
import type { Secret } from "../src/secret.js";
import { HsmError } from "./hsm.js";
import type { SoftHsmAnswer, SoftHsmOrder } from "./softhsm-child.js";

/** Where packages put the library: Debian and Ubuntu (SoftHSM's own folder, then multiarch), Fedora, Arch and Alpine, Homebrew. */
const places = [
  "/usr/lib/softhsm/libsofthsm2.so",
  "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib64/pkcs11/libsofthsm2.so",
  "/usr/lib64/softhsm/libsofthsm2.so",
  "/usr/local/lib/softhsm/libsofthsm2.so",
  "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];

/** Time to make a token; it takes some 50 ms. */
const create_ms = 30_000;

/** Path of libsofthsm2. @throws HsmError "device" that names the packages */
export function findSoftHsmLibrary(candidates: readonly string[] = places): string {
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new HsmError("device", "SoftHSM2 is not installed: apt-get install softhsm2 (Debian, Ubuntu), dnf install softhsm (Fedora), brew install softhsm (macOS)");
}

/** A development token. Both PINs 4 to 255 bytes. */
export interface SoftHsmToken {
  /** Holds `softhsm2.conf` and `tokens/`; made, with mode 0700, where it is not there. */
  readonly directory: string;
  /** 1 to 32 bytes. */
  readonly label: string;
  readonly pin: Secret;
  readonly soPin: Secret;
  /** Default: where it is found. */
  readonly library?: string;
}

/** What was made, or was there. */
export interface SoftHsmPlace {
  /** For HsmOptions. */
  readonly softhsmConf: string;
  readonly library: string;
  readonly serial: string;
  /** Whether the token was made now. */
  readonly created: boolean;
}

/**
 * Makes a SoftHSM2 token for development and tests, or finishes one that was left half-made; one that is there stays as it is, PINs
 * included. Works in a child process, because the library's state belongs to a process. The PINs go there as a message, not as arguments or environment.
 * @throws HsmError "device" if it can't be made
 */
export async function createSoftHsmToken(token: SoftHsmToken): Promise<SoftHsmPlace> {
  const library = token.library ?? findSoftHsmLibrary();
  const directory = resolve(token.directory);
  await mkdir(join(directory, "tokens"), { recursive: true, mode: 0o700 });
  const softhsmConf = join(directory, "softhsm2.conf");
  await writeConfiguration(softhsmConf, join(directory, "tokens"));
  const order: SoftHsmOrder = { library, label: token.label, pin: token.pin.open(), soPin: token.soPin.open() };
  let answer = await inChild(order, softhsmConf);
  if (!answer.ok && answer.message === "CKR_GENERAL_ERROR" && (await setAsideKeyless(directory)) > 0) answer = await inChild(order, softhsmConf);
  if (!answer.ok) throw new HsmError("device", `the SoftHSM token in ${directory} can't be made: ${answer.message}`);
  return { softhsmConf, library, serial: answer.serial, created: answer.created };
}

/**
 * A token that was half written keeps the library from starting. Folders of tokens without a single key object move out of its way, to
 * `set-aside/`: nothing can be lost with them. One that holds keys is never touched. Answers with the number of folders moved.
 */
async function setAsideKeyless(directory: string): Promise<number> {
  const tokens = join(directory, "tokens");
  const aside = join(directory, "set-aside");
  let moved = 0;
  for (const name of await readdir(tokens)) {
    const files = await readdir(join(tokens, name)).catch(() => undefined);
    if (files === undefined || files.some((file) => file.endsWith(".object") && file !== "token.object")) continue;
    await mkdir(aside, { recursive: true, mode: 0o700 });
    await rename(join(tokens, name), join(aside, `${name}.${clock.now_ms()}`));
    moved += 1;
  }
  return moved;
}

/** Written beside and renamed, so that a half-written one is never read. */
async function writeConfiguration(path: string, tokens: string): Promise<void> {
  const text = [
    "# SoftHSM2, for development only. Written by Cardex.",
    `directories.tokendir = ${tokens}`,
    "objectstore.backend = file",
    "log.level = ERROR",
    "slots.removable = false",
    "",
  ].join("\n");
  if (existsSync(path) && (await readFile(path, "utf8")) === text) return;
  const beside = `${path}.${process.pid}`;
  await writeFile(beside, text, { mode: 0o600 });
  await rename(beside, path);
}

function inChild(order: SoftHsmOrder, softhsmConf: string): Promise<SoftHsmAnswer> {
  return new Promise<SoftHsmAnswer>((settle, reject) => {
    const child = fork(new URL("./softhsm-child.js", import.meta.url), [], {
      env: { SOFTHSM2_CONF: softhsmConf },
      execArgv: [],
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      timeout: create_ms,
      killSignal: "SIGKILL",
    });
    child.on("message", (message) => {
      settle(message as SoftHsmAnswer);
      child.disconnect();
    });
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      settle({ ok: false, message: `its process ended without an answer (${signal ?? code ?? "unknown"})` });
    });
    child.send(order);
  });
}
