import type { handleUnaryCall, Server, ServerDuplexStream, ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import { judgeAgain } from "./answer-stream.js";
import type { Arrival } from "./arrival.js";
import type { Edge } from "./edge.js";
import type { Gate } from "./gate.js";
import { recordDone, refuse } from "./outcome.js";

/** Something of another package that adds its service to a server. */
interface ServiceGiver {
  addToServer(server: Pick<Server, "addService">): void;
}

/**
 * Adds the services of another package (health, reflection) under the rules of our own: they came through the gate, so their caller is a
 * known principal; the call is audited before the package's handler sees it; and the caller is judged again while a stream lasts.
 */
export function adoptServices(edge: Edge, gate: Gate, server: Server, giver: ServiceGiver): void {
  giver.addToServer({
    addService: (definition: ServiceDefinition, implementation: UntypedServiceImplementation) => {
      const adopted: UntypedServiceImplementation = {};
      for (const [name, method] of Object.entries(definition)) {
        const handler = implementation[name] ?? implementation[method.originalName ?? name];
        if (handler === undefined) continue;
        if (method.responseStream) adopted[name] = adoptStream(edge, gate, handler as StreamHandling);
        else adopted[name] = adoptUnary(edge, gate, handler as handleUnaryCall<unknown, unknown>);
      }
      server.addService(definition, adopted);
    },
  });
}

/** Server streams and bidirectional ones alike: what is used here, both have. */
type StreamHandling = (call: ServerDuplexStream<unknown, unknown>) => void;

function adoptUnary(edge: Edge, gate: Gate, handler: handleUnaryCall<unknown, unknown>): handleUnaryCall<unknown, unknown> {
  return (call, callback) => {
    const arrival = gate.arrivalOf(call.metadata);
    arrival.dispatch(() => admitted(edge, arrival, () => handler(call, callback)));
  };
}

function adoptStream(edge: Edge, gate: Gate, handler: StreamHandling): StreamHandling {
  return (call) => {
    const arrival = gate.arrivalOf(call.metadata);
    arrival.dispatch(() =>
      admitted(edge, arrival, () => {
        const stop = judgeAgain(arrival);
        call.once("close", stop);
        call.once("cancelled", stop);
        handler(call);
      }),
    );
  };
}

async function admitted(edge: Edge, arrival: Arrival, handle: () => void): Promise<void> {
  try {
    await recordDone(edge, arrival);
    if (!arrival.open) return;
    arrival.adopt();
    handle();
  } catch (error) {
    await refuse(edge, arrival, error);
  }
}
