import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { z } from "zod";
import { ConnectError } from "./channels.js";

/** Roles that the default policy knows; a development installation has an identity for each, of the same name. */
export const roleNames = [
  "payment-gateway",
  "risk-system",
  "card-operations",
  "auditor",
  "key-custodian",
  "policy-admin",
  "analyst",
  "operator",
] as const;

const schema = z.object({
  server: z.string().min(1),
  ca: z.string().min(1),
  identities: z.record(z.string(), z.object({ cert: z.string().min(1), key: z.string().min(1) })),
});

/** Where a server is and which identities are at hand. Paths are absolute. */
export interface ClientProfile {
  readonly file: string;
  readonly server: string;
  readonly ca: string;
  readonly identities: Readonly<Record<string, { readonly cert: string; readonly key: string }>>;
}

/**
 * Reads a profile, as the development set-up writes it. Paths in it are relative to the file.
 * @throws ConnectError if there is one that can't be used; answers undefined if there is none.
 */
export async function readClientProfile(file: string): Promise<ClientProfile | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const result = schema.safeParse(readJson(text, file));
  if (!result.success) {
    const [issue] = result.error.issues;
    throw new ConnectError(`client profile ${file}: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "is not valid"}`);
  }
  const { server, ca, identities } = result.data;
  const at = (path: string): string => resolve(dirname(file), path);
  return {
    file,
    server,
    ca: at(ca),
    identities: Object.fromEntries(Object.entries(identities).map(([name, { cert, key }]) => [name, { cert: at(cert), key: at(key) }])),
  };
}

function readJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ConnectError(`client profile ${file} is not JSON`, { cause: error });
  }
}
