import { toJsonString } from "@bufbuild/protobuf";
import { randomInt, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { CardStatus } from "../../gen/cardex/v1/card_pb.js";
import { RotateIndexCodeResponseSchema, SetCardStatusResponseSchema } from "../../gen/cardex/v1/card_service_pb.js";
import { Purpose, TokenizeResponseSchema } from "../../gen/cardex/v1/token_service_pb.js";
import { type CardexClient, CardexError } from "../../src/client/index.js";
import { testCard } from "../../src/dev/test-cards.js";
import type { TestInstallation } from "./installation.js";

/** Clients of one server. */
export interface LoadClients {
  readonly gateway: CardexClient;
  readonly operations: CardexClient;
  readonly risk: CardexClient;
}

/** A mutation under one request_id. */
export interface Deed {
  readonly kind: "tokenize" | "status" | "rotate";
  readonly requestId: string;
  /** For tokenize. */
  readonly pan: string | undefined;
  /** Sends it, again too; answers with the response as JSON. */
  readonly send: (by: LoadClients) => Promise<string>;
  /** The response, once there was one. */
  answer: string | undefined;
}

/** What a fault may end a call with. Anything else is a fault of the server. */
const passing = new Set(["STORE_UNAVAILABLE", "HSM_UNAVAILABLE", "STOPPING", "LIMIT", "DEADLINE"]);

/** How long a caller waits after a call that failed: without a connection calls fail at once. */
const pause_ms = 100;

/** Every call once: what is repeated, and when, is the load's own business. */
export const once = { attempts_max: 1, backoff_ms: 1, backoff_ms_max: 1 };

/** Clients for every server of an installation, each with new connections of its own. */
export async function loadClients(vault: TestInstallation, perServer: number): Promise<LoadClients[]> {
  const choices = Array.from({ length: perServer }, () => vault.servers.map((_, server) => ({ server, retries: once, deadline_ms: 8000 }))).flat();
  return await Promise.all(
    choices.map(async (choice) => ({
      gateway: await vault.client("payment-gateway", choice),
      operations: await vault.client("card-operations", choice),
      risk: await vault.client("risk-system", choice),
    })),
  );
}

/**
 * Callers that do what a day's callers do, all at once, and keep count: what was asked under which request_id, what was
 * answered, which PAN came for which token.
 */
export class Load {
  readonly deeds: Deed[] = [];
  /** PANs received, by token. */
  readonly received = new Map<string, number>();
  /** Names of the gRPC codes that a fault ended calls with. */
  readonly refusals = new Set<string>();
  /** What must not happen. */
  readonly faults: unknown[] = [];
  readonly #cards: number;
  readonly #known: { token: string; pan: string }[] = [];
  readonly #workers: Promise<void>[] = [];
  #ended = false;
  #answers = 0;

  /** @param cards number of PANs that the load is about: few, so that they meet */
  constructor(cards = 100) {
    this.#cards = cards;
  }

  /** Calls answered so far. */
  get answers(): number {
    return this.#answers;
  }

  /** Starts callers, each with one call under way, besides those that are at work already. */
  start(callers: number, clients: readonly LoadClients[]): void {
    for (let i = 0; i < callers; i += 1) this.#workers.push(this.#work(clients[i % clients.length] as LoadClients));
  }

  /** Waits until so many more calls were answered. */
  async more(answers: number): Promise<void> {
    const aim = this.#answers + answers;
    while (this.#answers < aim) await sleep(5);
  }

  async stop(): Promise<void> {
    this.#ended = true;
    await Promise.all(this.#workers);
  }

  async #work(by: LoadClients): Promise<void> {
    while (!this.#ended) {
      try {
        await this.#step(by);
        this.#answers += 1;
      } catch (error) {
        if (!mayPass(error)) this.faults.push(error);
        else if (error instanceof CardexError) this.refusals.add(error.codeName);
        await sleep(pause_ms);
      }
    }
  }

  async #step(by: LoadClients): Promise<void> {
    const turn = randomInt(10);
    const known = this.#known[randomInt(this.#known.length + 1)];
    if (known === undefined || turn < 5) await this.#do(by, tokenizing(testCard(randomInt(this.#cards)).pan));
    else if (turn < 7) await this.#reveal(by, known);
    else if (turn === 7) await by.risk.cards.getCard({ card: { key: { case: "token", value: known.token } } });
    else if (turn === 8) await this.#do(by, rotating(known.token));
    else await this.#do(by, settingStatus(known.token));
  }

  async #do(by: LoadClients, deed: Deed): Promise<void> {
    this.deeds.push(deed);
    try {
      deed.answer = await deed.send(by);
    } catch (error) {
      // A refusal by the card's status is not kept, and may come out otherwise the next time.
      if (error instanceof CardexError && error.reason === "STATUS_TRANSITION") this.deeds.splice(this.deeds.indexOf(deed), 1);
      else throw error;
    }
    if (deed.pan !== undefined && deed.answer !== undefined) this.#known.push({ token: tokenOf(deed.answer), pan: deed.pan });
  }

  async #reveal(by: LoadClients, { token, pan }: { token: string; pan: string }): Promise<void> {
    const answer = await by.gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT });
    if (answer.pan !== pan) this.faults.push(new Error(`${token} came back as another card`));
    this.received.set(token, (this.received.get(token) ?? 0) + 1);
  }
}

/** The token in the answer of a tokenize deed. */
export function tokenOf(answer: string): string {
  return (JSON.parse(answer) as { token: string }).token;
}

/** Whether a fault may end a call so: a connection that broke, or a server that says what it lacks. */
function mayPass(error: unknown): boolean {
  if (!(error instanceof CardexError)) return false;
  // Without a reason of ours it is the client that speaks: of its connection, or its deadline.
  return passing.has(error.reason) || (error.reason === error.codeName && ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL"].includes(error.reason) && !isOurs(error));
}

function isOurs(error: CardexError): boolean {
  const { metadata } = (error.cause ?? {}) as { metadata?: { get(key: string): unknown[] } };
  return (metadata?.get("grpc-status-details-bin").length ?? 0) > 0;
}

function tokenizing(pan: string): Deed {
  const requestId = randomUUID();
  const request = { requestId, pan, expiry: { year: 2090, month: 1 } };
  return { kind: "tokenize", requestId, pan, answer: undefined, send: async ({ gateway }) => toJsonString(TokenizeResponseSchema, await gateway.tokens.tokenize(request)) };
}

function rotating(token: string): Deed {
  const requestId = randomUUID();
  const request = { requestId, card: { key: { case: "token", value: token } } } as const;
  return { kind: "rotate", requestId, pan: undefined, answer: undefined, send: async ({ operations }) => toJsonString(RotateIndexCodeResponseSchema, await operations.cards.rotateIndexCode(request)) };
}

function settingStatus(token: string): Deed {
  const requestId = randomUUID();
  const request = { requestId, card: { key: { case: "token", value: token } }, status: randomInt(2) === 0 ? CardStatus.FROZEN : CardStatus.ACTIVE } as const;
  return { kind: "status", requestId, pan: undefined, answer: undefined, send: async ({ operations }) => toJsonString(SetCardStatusResponseSchema, await operations.cards.setCardStatus(request)) };
}
