import { type Metadata, ServerInterceptingCall, type ServerInterceptor } from "@grpc/grpc-js";
import { Failure } from "../failure.js";
import { Arrival } from "./arrival.js";
import type { Edge } from "./edge.js";
import { hasEnded, unknownPath } from "./grpc-internals.js";
import { refuse } from "./outcome.js";
import { peerOf } from "./peer.js";
import { toStatus } from "./status.js";

/**
 * Where every call comes in, as soon as its headers are there: identity, then limits, then the principal's standing. Nothing of its
 * message has been read yet.
 */
export class Gate {
  readonly #edge: Edge;
  readonly #deadline_ms: (rpc: string) => number;
  readonly #arrivals = new WeakMap<Metadata, Arrival>();
  readonly #inside = new Set<Arrival>();

  /** @param deadline_ms time that a call of this RPC gets at most */
  constructor(edge: Edge, deadline_ms: (rpc: string) => number) {
    this.#edge = edge;
    this.#deadline_ms = deadline_ms;
  }

  /** The arrival of a call that a handler got, by its metadata object. */
  arrivalOf(metadata: Metadata): Arrival {
    const arrival = this.#arrivals.get(metadata);
    if (arrival === undefined) throw new Error("a call that did not come through the gate");
    return arrival;
  }

  /** Gives up every call under way, or those of some RPCs. */
  giveUpAll(failure: Failure, which: (rpc: string) => boolean = () => true): void {
    for (const arrival of this.#inside) if (which(arrival.call.rpc)) arrival.giveUp(failure);
  }

  readonly interceptor: ServerInterceptor = (method, base) => {
    const peer = peerOf(base);
    if (peer === undefined) {
      base.sendStatus(toStatus(new Failure("UNKNOWN_PRINCIPAL", "no client certificate")));
      return new ServerInterceptingCall(base, { start: () => {} });
    }
    const rpc = method.path === unknownPath ? "unknown" : method.path.slice(1);
    let leave = (): void => {};
    const arrival = new Arrival(this.#edge, base, peer, rpc, this.#deadline_ms(rpc), {
      onEarlyEnd: (ended, failure) => refuse(this.#edge, ended, failure),
      onGone: (gone) => {
        this.#inside.delete(gone);
        leave();
      },
    });
    this.#inside.add(arrival);
    return new ServerInterceptingCall(base, {
      start: (next) => {
        next({
          onReceiveMetadata: (metadata, pass) => {
            try {
              if (this.#edge.stopping()) throw new Failure("STOPPING", "this server is stopping; try another connection");
              leave = isEndless(method) ? this.#edge.infrastructureStreams.enter() : this.#edge.inFlight.enter(peer.identity.principal.id);
              arrival.call.checkStanding();
              if (method.path === unknownPath) throw new Failure("UNKNOWN_METHOD", "no such method");
            } catch (error) {
              if (error instanceof Failure) arrival.giveUp(error);
              else arrival.giveUp(new Failure("INTERNAL", "internal error", { cause: error }));
              return;
            }
            this.#arrivals.set(metadata, arrival);
            pass(metadata);
          },
          onCancel: () => arrival.close(),
        });
        // Where the stream has ended before it started, grpc-js tells nobody.
        if (hasEnded(base)) arrival.close();
      },
    });
  };
}

/** A watch of health, or a conversation with reflection: idle for as long as the caller likes. */
function isEndless(method: { readonly path: string; readonly responseStream: boolean }): boolean {
  return method.responseStream && method.path.startsWith("/grpc.");
}
