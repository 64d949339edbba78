import { execFile } from "node:child_process";
import { readFile, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { HsmOptions } from "../../hsm/options.js";
import { freshToken, type FreshToken } from "./token.js";

const source = fileURLToPath(new URL("../../../test/faulty-pkcs11/faulty.c", import.meta.url));

/** A SoftHSM2 token of one's own behind a library that makes faults. */
export interface FaultyToken extends FreshToken {
  /** Asks for faults from now on, in the lines that `faulty.c` describes, instead of those before; none without an argument. */
  fault(...lines: readonly string[]): Promise<void>;
  /** Names of the functions that met a fault so far. */
  faulted(): Promise<string[]>;
}

/** Makes a token, and compiles the library that stands in front of SoftHSM2 into its folder. */
export async function faultyToken(overrides: Partial<HsmOptions> = {}): Promise<FaultyToken> {
  const token = await freshToken(overrides);
  const at = (name: string): string => join(token.directory, name);
  await promisify(execFile)("cc", ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", at("faulty.so"), source, "-ldl", "-lpthread"]);
  await symlink(token.options.library, at("real"));
  return {
    ...token,
    options: { ...token.options, library: at("faulty.so") },
    fault: async (...lines) => {
      await writeFile(at("control.next"), lines.map((line) => `${line}\n`).join(""));
      await rename(at("control.next"), at("control"));
    },
    faulted: async () => {
      const text = await readFile(at("applied"), "utf8").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return "";
        throw error;
      });
      return text.split("\n").filter((line) => line !== "");
    },
  };
}
