import { randomBytes } from "node:crypto";
import { Secret } from "../secret.js";
import { readIfThere, writeWhole } from "./files.js";

/** A random secret in a file of mode 0600, made if there is none. */
export async function ensureSecret(path: string): Promise<Secret> {
  const present = (await readIfThere(path))?.trim();
  if (present !== undefined && present !== "") return new Secret(present);
  const made = randomBytes(18).toString("base64url");
  await writeWhole(path, `${made}\n`, 0o600);
  return new Secret(made);
}
