/** Who calls, from the certificate (access/identity.ts reads it). */
export interface Principal {
  /** SPIFFE ID, `spiffe://<trust domain>/tenant/<tenant>/<name>`. */
  readonly id: string;
  /** The tenant; also the name of its audit log. */
  readonly tenant: string;
}

/** How a call, or one resource of it, ended, as the audit entry says it. */
export type Outcome = "released" | "done" | "denied" | "malformed" | "failed" | "refused" | "withheld";

/** A token, code or card that a call touched. Well-formed values only: what a caller sent unchecked never stands here. */
export interface Resource {
  token?: string;
  indexCode?: string;
  /** Card ID (UUID). */
  card?: string;
  outcome?: Outcome;
  /** FailureReason, or the inner reason that the caller is not told. */
  reason?: string;
}

/**
 * One call on its way through the house. Made by rpc/, handed to vault/ and cards/, read by audit/: what is in it becomes
 * the audit entry.
 */
export interface Call {
  /** UUIDv7. */
  readonly id: string;
  /** For example `cardex.v1.TokenService/Detokenize`. */
  readonly rpc: string;
  readonly principal: Principal;
  /** Remote IP address. */
  readonly address: string;
  /** Ends when the caller goes away, its deadline passes, or the server stops. */
  readonly signal: AbortSignal;
  /** Purpose, for calls that need one; without its prefix. */
  purpose: string | undefined;
  /** The request_id, once it was found well-formed. */
  requestId: string | undefined;
  /** Further facts for the audit entry: the new status, the filter of a listing, ... Strings and safe integers only. */
  facts: Record<string, string | number>;
  /** What the call touched, in order. */
  resources: Resource[];
  /** What the caller's role may see of a card outside Detokenize; decided in access/ together with the call. */
  readonly view: "nothing" | "masked";
  /** Version of the policy under which it was decided last. */
  policyVersion: number;
  /**
   * Decides again under a policy at least as new as `version`. Called when the version read in the committing transaction
   * is not the one decided under.
   * @throws Failure DENIED or UNKNOWN_PRINCIPAL
   */
  decideAgain(version: number): Promise<void>;
  /** Whether the policy gives this caller tokens of this scope for its purpose; decided from the newest policy this server has. */
  mayUseScope(scope: string): boolean;
  /**
   * Set by audit/ when the caller has to be told UNAVAILABLE while it is not known whether its entry is committed. audit/ sees to the entry
   * then: the edge writes none, which might contradict it.
   */
  unsettled: boolean;
  /** Set by audit/ once the entry with the true outcome is committed; the edge writes one for a call that has none. */
  audited: boolean;
}
