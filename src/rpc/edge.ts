import type { RaiseAlert } from "../alert.js";
import type { Policy } from "../access/policy.js";
import type { InFlight } from "../access/in-flight.js";
import type { Places } from "../access/places.js";
import type { Revocations } from "../access/revocations.js";
import type { Journal } from "../audit/journal.js";
import type { Limits } from "../config.js";
import type { Logger } from "../log.js";
import type { Metrics } from "../metrics.js";

/** What every call at the edge needs; one for each server. */
export interface Edge {
  readonly policy: Policy;
  readonly revocations: Pick<Revocations, "isRevoked">;
  readonly journal: Journal;
  readonly inFlight: InFlight;
  /** Streams that last as long as the caller likes, and take no place in flight from a call. */
  readonly infrastructureStreams: Places;
  readonly limits: Limits;
  readonly metrics: Metrics;
  readonly alert: RaiseAlert;
  readonly log: Logger;
  /** Whether new calls are refused because the server stops. */
  readonly stopping: () => boolean;
}
