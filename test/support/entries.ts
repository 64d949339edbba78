import type { Admin } from "./admin.js";
import { verifiedEntries } from "./vault.js";

export type Entry = Readonly<Record<string, unknown>>;

/** Every entry, all chains verified, that names a token, and what followed on the calls of these. */
export async function entriesAbout(admin: Admin, token: string): Promise<Entry[]> {
  const entries: Entry[] = await verifiedEntries(admin);
  const calls = new Set(entries.filter((entry) => resourcesOf(entry).some((resource) => resource.token === token)).map((entry) => entry["call"]));
  return entries.filter((entry) => calls.has(entry["call"]));
}

export function resourcesOf(entry: Entry): readonly { readonly token?: string; readonly outcome?: string; readonly reason?: string }[] {
  return (entry["resources"] ?? []) as { token?: string; outcome?: string; reason?: string }[];
}

/** PANs that left, by token, as the log tells it: released, and not known to have stayed. */
export function releasedByToken(entries: readonly Entry[]): Map<string, number> {
  const withheld = new Set(entries.filter((entry) => entry["kind"] === "withheld").map((entry) => entry["call"]));
  const released = new Map<string, number>();
  for (const entry of entries) {
    for (const { token, outcome } of resourcesOf(entry)) {
      if (outcome !== "released" || token === undefined) continue;
      if (entry["outcome"] !== "released") throw new Error(`entry ${String(entry["call"])} names a released PAN, and is ${String(entry["outcome"])}`);
      if (!withheld.has(entry["call"])) released.set(token, (released.get(token) ?? 0) + 1);
    }
  }
  return released;
}
