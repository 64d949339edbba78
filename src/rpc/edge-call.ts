import { v7 as uuidv7 } from "uuid";
import { identityFault } from "../access/identity.js";
import type { Call, Principal, Resource } from "../call.js";
import { clock } from "../clock.js";
import { Failure } from "../failure.js";
import type { Edge } from "./edge.js";
import type { Peer } from "./peer.js";

/** What a call asks to be allowed, once its request was decoded. */
interface Asked {
  readonly service: string;
  readonly method: string;
  readonly purpose: string | undefined;
}

/** A call as the edge makes it. */
export class EdgeCall implements Call {
  readonly id = uuidv7();
  readonly rpc: string;
  readonly principal: Principal;
  readonly address: string;
  readonly signal: AbortSignal;
  purpose: string | undefined = undefined;
  requestId: string | undefined = undefined;
  facts: Record<string, string | number> = {};
  resources: Resource[] = [];
  view: "nothing" | "masked" = "nothing";
  policyVersion = 0;
  unsettled = false;
  audited = false;
  readonly #edge: Edge;
  readonly #peer: Peer;
  #asked: Asked | undefined;

  /** @param rpc for example "cardex.v1.TokenService/Tokenize"; never text of the caller's own */
  constructor(edge: Edge, peer: Peer, rpc: string, signal: AbortSignal) {
    this.#edge = edge;
    this.#peer = peer;
    this.rpc = rpc;
    this.signal = signal;
    this.address = peer.address;
    const { principal } = peer.identity;
    // Of a tenant that nobody knows there is no log: its attempts stand in the installation's own.
    this.principal = edge.policy.knowsTenant(principal.tenant) ? principal : { id: principal.id, tenant: "system" };
  }

  /**
   * Whether the caller is anybody at this moment: certificate valid, not revoked, principal known.
   * @throws Failure UNKNOWN_PRINCIPAL
   */
  checkStanding(): void {
    const fault = identityFault(this.#peer.identity, clock.now_ms(), this.#edge.revocations);
    if (fault !== undefined) throw unknownPrincipal(fault);
    if (!this.#edge.policy.knows(this.principal)) throw unknownPrincipal("no such principal");
    this.policyVersion = this.#edge.policy.version;
  }

  /**
   * Decides the call, and remembers what was asked for `decideAgain`.
   * @throws Failure DENIED or UNKNOWN_PRINCIPAL
   */
  decide(asked: Asked): void {
    this.#asked = asked;
    this.checkStanding();
    if (!this.#edge.policy.decide({ principal: this.principal, ...asked })) throw denied();
    this.view = this.#edge.policy.view(this.principal);
  }

  /** Decides once more what was decided before, under the policy that this server has now. @throws as `decide` */
  decideOnceMore(): void {
    if (this.#asked === undefined) this.checkStanding();
    else this.decide(this.#asked);
  }

  async decideAgain(version: number): Promise<void> {
    await this.#edge.policy.refresh(version);
    this.decideOnceMore();
  }

  mayUseScope(scope: string): boolean {
    return this.#edge.policy.mayUseScope(this.principal, scope, this.purpose);
  }
}

function unknownPrincipal(inner: string): Failure {
  return new Failure("UNKNOWN_PRINCIPAL", "the certificate names no known principal, or is no longer valid", { inner });
}

/** The one refusal of the policy: it does not say which rule, or whether anything exists. */
export function denied(): Failure {
  return new Failure("DENIED", "the policy does not allow this");
}
