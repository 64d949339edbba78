import { ChainVerifier } from "../audit/verify-chain.js";
import { readClientProfile } from "../client/profile.js";
import { CardexClient, CardexError, CardStatus, Purpose } from "../client/index.js";
import { compareImported } from "./demonstration-file.js";
import { Obstacle } from "./obstacle.js";
import type { StateLayout } from "./state.js";
import { testCard } from "./test-cards.js";

/** Where the demonstration writes a line. */
export type Tell = (line: string) => void;

/** Something that the demonstration shows did not come out as it should. */
export class DemonstrationFailure extends Error {
  override readonly name = "DemonstrationFailure";
}

/**
 * Shows what the vault is for, over mTLS as its callers do it: a card number in, token and index code out; the number back to a gateway;
 * status and a refusal to a risk system; an index code rotated; the audit log exported and its chain checked; then a file of cards
 * there and back.
 * @throws DemonstrationFailure, CardexError
 */
export async function demonstrate(layout: StateLayout, tell: Tell): Promise<void> {
  const clients = await openClients(layout.clientFile);
  try {
    const token = await showTokens(clients, tell);
    await showCardIndex(clients, token, tell);
    await showAudit(clients, tell);
  } finally {
    for (const client of Object.values(clients)) client.close();
  }
  await compareImported(layout, tell);
}

interface Clients {
  readonly gateway: CardexClient;
  readonly risk: CardexClient;
  readonly operations: CardexClient;
  readonly auditor: CardexClient;
}

async function openClients(clientFile: string): Promise<Clients> {
  const profile = await readClientProfile(clientFile);
  if (profile === undefined) throw new Obstacle(`${clientFile} is missing: start again, and it is made`);
  const open = async (role: string): Promise<CardexClient> => {
    const identity = profile.identities[role];
    if (identity === undefined) throw new Obstacle(`${clientFile} names no ${role}: remove it and start again`);
    return await CardexClient.connect({ address: profile.server, serverName: "localhost", ca: profile.ca, ...identity });
  };
  const [gateway, risk, operations, auditor] = await Promise.all(["payment-gateway", "risk-system", "card-operations", "auditor"].map(open));
  if (gateway === undefined || risk === undefined || operations === undefined || auditor === undefined) throw new Error("unreachable: four clients");
  return { gateway, risk, operations, auditor };
}

async function showTokens({ gateway }: Clients, tell: Tell): Promise<string> {
  const { pan } = testCard(0);
  tell(`payment gateway   tokenizes the test card ${pan}`);
  const { token, indexCode, masked } = await gateway.tokens.tokenize({ pan, expiry: { year: 2035, month: 1 }, cardholderName: "TEST CARDHOLDER A" });
  tell(`                  -> token ${token}`);
  tell(`                  -> index code ${indexCode}, masked ${masked?.bin ?? ""}…${masked?.lastFour ?? ""}`);
  const revealed = await gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT });
  expectThat(revealed.pan === pan, "the card number that came back is the one that went in");
  tell(`payment gateway   detokenizes it for a payment -> ${revealed.pan}`);
  return token;
}

async function showCardIndex({ risk, operations }: Clients, token: string, tell: Tell): Promise<void> {
  const { card } = await risk.cards.getCard({ card: { key: { case: "token", value: token } } });
  expectThat(card !== undefined && card.indexCode !== "", "the risk system gets the card");
  tell(`risk system       asks for the card -> ${CardStatus[card.status]}, index code ${card.indexCode}`);
  const refusal = await failureOf(risk.tokens.detokenize({ token, purpose: Purpose.PAYMENT }));
  expectThat(refusal.reason === "DENIED", "the risk system is refused the card number");
  tell(`risk system       asks for the card number -> ${refusal.codeName}`);
  const before = card.indexCode;
  const { card: rotated } = await operations.cards.rotateIndexCode({ card: { key: { case: "indexCode", value: before } } });
  expectThat(rotated !== undefined && rotated.indexCode !== before, "the index code changes");
  tell(`card operations   rotates the index code -> ${rotated.indexCode}; ${before} answers for a grace period`);
}

async function showAudit({ auditor }: Clients, tell: Tell): Promise<void> {
  const verifier = new ChainVerifier();
  const problems: string[] = [];
  let entries = 0;
  const heads: { stream: string; seq: number; hash: string }[] = [];
  for await (const message of auditor.audit.exportEntries({})) {
    for (const line of message.lines) {
      entries += 1;
      const problem = verifier.accept(Buffer.from(line));
      if (problem !== undefined) problems.push(problem.message);
    }
    heads.push(...message.heads.map((head) => ({ stream: head.stream, seq: Number(head.seq), hash: Buffer.from(head.hash).toString("hex") })));
  }
  problems.push(...verifier.finish({ heads, fromBeginning: true, toEnd: true }).map((problem) => problem.message));
  expectThat(entries > 0, "the audit log has entries");
  expectThat(problems.length === 0, `the audit log's chains verify (${problems[0] ?? ""})`);
  tell(`auditor           exports the log of all this: ${entries} entries in ${heads.length} chains, every link verified`);
}

async function failureOf(call: Promise<unknown>): Promise<CardexError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof CardexError) return error;
    throw error;
  }
  throw new DemonstrationFailure("the demonstration failed: a call that must be refused was answered");
}

function expectThat(condition: boolean, what: string): asserts condition {
  if (!condition) throw new DemonstrationFailure(`the demonstration failed: it does not hold that ${what}`);
}
