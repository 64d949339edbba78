import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import type { Config } from "../src/config.js";
import { Secret } from "../src/secret.js";
import { HsmError } from "./hsm.js";
import { promptHidden, type Terminal } from "./prompt.js";

/** A PIN longer than this is a wrong file. PKCS#11 tokens take 255 bytes at most. */
const pin_bytes_max = 255;

/**
 * Reads the user PIN: from `pinFile` (a regular file that nobody but its owner can read), else from `pinDescriptor`, else from the terminal,
 * without echo. One newline at the end is left out.
 * @throws HsmError "login" that says what to do; never with the PIN in it
 */
export async function readPin(source: Pick<Config["hsm"], "pinFile" | "pinDescriptor">, terminal?: Terminal): Promise<Secret> {
  if (source.pinFile !== undefined) return fromFile(source.pinFile);
  if (source.pinDescriptor !== undefined) return fromDescriptor(source.pinDescriptor);
  if (terminal !== undefined && terminal.input.isTTY === true) return checked(await promptHidden(terminal, "HSM user PIN: "), "the terminal");
  throw new HsmError("login", "no PIN: set hsm.pinFile or hsm.pinDescriptor, or start on a terminal");
}

function fromFile(path: string): Secret {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
    throw new HsmError("login", `PIN file ${path} can't be opened: ${code === "ELOOP" ? "it is a symbolic link" : code}`, { cause: error });
  }
  try {
    const status = fstatSync(descriptor);
    if (!status.isFile()) throw new HsmError("login", `PIN file ${path} is not a regular file`);
    if ((status.mode & 0o077) !== 0) throw new HsmError("login", `PIN file ${path} can be read by others: chmod 600 ${path}`);
    return checked(readFileSync(descriptor, "utf8"), `PIN file ${path}`);
  } finally {
    closeSync(descriptor);
  }
}

function fromDescriptor(descriptor: number): Secret {
  try {
    const pin = checked(readFileSync(descriptor, "utf8"), `descriptor ${descriptor}`);
    closeSync(descriptor);
    return pin;
  } catch (error) {
    if (error instanceof HsmError) throw error;
    throw new HsmError("login", `no PIN can be read from descriptor ${descriptor}`, { cause: error });
  }
}

function checked(text: string, where: string): Secret {
  const pin = text.replace(/\r?\n$/, "");
  const length = Buffer.byteLength(pin);
  if (length === 0) throw new HsmError("login", `${where} holds no PIN`);
  if (length > pin_bytes_max) throw new HsmError("login", `${where} holds more than a PIN`);
  if (/[\r\n\0]/.test(pin)) throw new HsmError("login", `${where} holds more than one line`);
  return new Secret(pin);
}
