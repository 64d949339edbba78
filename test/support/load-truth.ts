import { expect } from "vitest";
import { Purpose } from "../../gen/cardex/v1/token_service_pb.js";
import { CardexError } from "../../src/client/index.js";
import type { Admin } from "./admin.js";
import { releasedByToken } from "./entries.js";
import { type Deed, type Load, type LoadClients, tokenOf } from "./load.js";
import { verifiedEntries } from "./vault.js";

/** Repeats under way at once. */
const repeatsAtOnce = 64;

/**
 * What must hold after a load, whatever was broken meanwhile: no answer was wrong; each request_id was done exactly once and answers as it
 * did; each token gives its PAN; no card is there twice; every chain verifies, heads included; and the log tells of every PAN that left.
 * @param clients with new connections: those that saw a fault may still wait before they connect again
 */
export async function expectTruth(load: Load, clients: readonly LoadClients[], admin: Admin): Promise<void> {
  expect(load.faults).toEqual([]);
  const acknowledged = load.deeds.filter((deed) => deed.answer !== undefined).length;
  expect(acknowledged).toBeGreaterThan(0);
  await repeatAll(load.deeds, clients);

  const tokenizations = load.deeds.filter((deed) => deed.kind === "tokenize");
  expect(await admin.count("select count(*) from tokens")).toBe(tokenizations.length);
  const rotations = load.deeds.filter((deed) => deed.kind === "rotate").length;
  expect(await admin.count("select count(*) from cards")).toBe(new Set(tokenizations.map(({ pan }) => pan)).size);
  expect(await admin.count("select (select count(*) from index_codes) - (select count(*) from cards) as count")).toBe(rotations);
  expect(await admin.count("select count(*) from card_fingerprints")).toBe(await admin.count("select count(*) from cards"));

  await expectLog(load, admin);
  await expectPans(tokenizations, clients);
  await verifiedEntries(admin);
}

/** Sends every request again: those that were answered must answer the same; the others now, and then the same once more. */
async function repeatAll(deeds: readonly Deed[], clients: readonly LoadClients[]): Promise<void> {
  const unanswered = deeds.filter((deed) => deed.answer === undefined);
  await each(deeds, (deed, i) => repeat(deed, clients[i % clients.length] as LoadClients));
  await each(unanswered, (deed, i) => repeat(deed, clients[(i + 1) % clients.length] as LoadClients));
}

async function repeat(deed: Deed, by: LoadClients): Promise<void> {
  try {
    const answer = await deed.send(by);
    if (deed.answer !== undefined) expect(answer, deed.kind).toBe(deed.answer);
    deed.answer = answer;
  } catch (error) {
    // Never acknowledged, and the card is by now in a state that forbids it: a failure is not kept.
    if (deed.kind === "status" && deed.answer === undefined && error instanceof CardexError && error.reason === "STATUS_TRANSITION") return;
    throw error;
  }
}

async function expectPans(tokenizations: readonly Deed[], clients: readonly LoadClients[]): Promise<void> {
  const pans = new Map(tokenizations.map(({ pan, answer }) => [tokenOf(answer ?? "{}"), pan]));
  expect(pans.size).toBe(tokenizations.length);
  const tokens = [...pans.keys()];
  for (let start = 0; start < tokens.length; start += 500) {
    const items = tokens.slice(start, start + 500).map((token) => ({ token }));
    const by = clients[start % clients.length] as LoadClients;
    const { results } = await by.gateway.tokens.batchDetokenize({ purpose: Purpose.PAYMENT, items });
    expect(results.map(({ result }) => (result.case === "response" ? result.value.pan : result.value?.reason))).toEqual(items.map(({ token }) => pans.get(token)));
  }
}

async function expectLog(load: Load, admin: Admin): Promise<void> {
  const entries = await verifiedEntries(admin);
  const released = releasedByToken(entries);
  const untold = [...load.received].filter(([token, count]) => (released.get(token) ?? 0) < count);
  expect(untold).toEqual([]);
  const told = new Set(entries.map((entry) => entry["request_id"]));
  expect(load.deeds.filter((deed) => deed.answer !== undefined && !told.has(deed.requestId)).map(({ kind }) => kind)).toEqual([]);
}

async function each<T>(items: readonly T[], work: (item: T, i: number) => Promise<void>): Promise<void> {
  const queue = items.entries();
  await Promise.all(
    Array.from({ length: repeatsAtOnce }, async () => {
      for (const [i, item] of queue) await work(item, i);
    }),
  );
}
