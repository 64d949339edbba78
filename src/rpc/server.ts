import type { AddressInfo } from "node:net";
import type { DescService } from "@bufbuild/protobuf";
import { type ConnectionInjector, Server, ServerCredentials } from "@grpc/grpc-js";
import { InFlight } from "../access/in-flight.js";
import { Places } from "../access/places.js";
import type { Policy } from "../access/policy.js";
import { Revocations } from "../access/revocations.js";
import type { RaiseAlert } from "../alert.js";
import type { Journal } from "../audit/journal.js";
import type { Config } from "../config.js";
import { Failure } from "../failure.js";
import type { Logger } from "../log.js";
import type { Metrics } from "../metrics.js";
import { adoptServices } from "./adopted-service.js";
import { rawDefinition } from "./definition.js";
import { dispatchService } from "./dispatch.js";
import type { Edge } from "./edge.js";
import { Gate } from "./gate.js";
import { admitUnknownMethods, onForeignRequest } from "./grpc-internals.js";
import type { ServiceHandlers } from "./handler.js";
import { Health } from "./health.js";
import { reflectionOf } from "./reflection.js";
import { TlsListener } from "./tls-listener.js";

/** A service with its handlers; made by `served`, so that they fit. */
export interface ServedService {
  readonly service: DescService;
  readonly register: (edge: Edge, gate: Gate, server: Server) => void;
}

/** Puts a service and its handlers together. */
export function served<S extends DescService>(service: S, handlers: ServiceHandlers<S>): ServedService {
  return { service, register: (edge, gate, server) => server.addService(rawDefinition(service), dispatchService(edge, gate, service, handlers)) };
}

export interface ServerOptions {
  readonly config: Pick<Config, "listen" | "tls" | "limits">;
  readonly log: Logger;
  readonly policy: Policy;
  readonly journal: Journal;
  readonly metrics: Metrics;
  readonly alert: RaiseAlert;
  readonly services: readonly ServedService[];
  /** How often certificate and revocation files are looked at, milliseconds; default 1000. */
  readonly reload_ms?: number;
}

/** A server that takes calls. */
export interface RunningServer {
  readonly address: AddressInfo;
  /** Whether it takes calls: not before all is ready, not while it stops. */
  readonly serving: boolean;
  /** Looks at certificates and revocation lists now, instead of within a second. */
  reload(): Promise<void>;
  /** Refuses new calls, lets those under way end for `limits.drain_ms`, then ends them. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Starts the gRPC edge.
 * @throws CertificateError, RevocationError; an error with code EADDRINUSE or EACCES if the port can't be had
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { config, log, metrics } = options;
  let stopping = false;
  const inFlight = new InFlight(config.limits);
  const infrastructureStreams = new Places("infrastructureStreams", config.limits.infrastructureStreams);
  const revocations = await Revocations.open({
    crlFile: config.tls.crlFile,
    caFile: config.tls.clientCaFile,
    ...(options.reload_ms === undefined ? {} : { interval_ms: options.reload_ms }),
    onWarning: (error) => options.alert("revocations.refused", {}, error),
  });
  const edge: Edge = { ...options, limits: config.limits, inFlight, infrastructureStreams, revocations, stopping: () => stopping };
  const gate = new Gate(edge, (rpc) => (longRpcs.has(rpc) ? config.limits.exportDeadline_ms : config.limits.callDeadline_ms));
  const server = newServer(edge, gate);
  const health = new Health(options.services.map(({ service }) => service.typeName));
  for (const { register } of options.services) register(edge, gate, server);
  adoptServices(edge, gate, server, health.implementation);
  adoptServices(edge, gate, server, reflectionOf(options.services.map(({ service }) => service)));
  const injector: ConnectionInjector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = await openListener(options, injector, revocations);
  metrics.watch("calls_in_flight", "calls under way", () => inFlight.total);
  metrics.watch("connections", "open connections", () => listener.connections);
  health.set(true);
  log.info({ address: listener.address.address, port: listener.address.port }, "gRPC server listens");

  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    health.set(false);
    stopping = true;
    listener.close();
    gate.giveUpAll(stoppingFailure(), (rpc) => endlessRpcs.test(rpc));
    const drained = closed(server);
    await within(drained, config.limits.drain_ms);
    gate.giveUpAll(stoppingFailure());
    await within(drained, lastAnswers_ms);
    server.forceShutdown();
    listener.destroy();
    revocations.close();
  };
  return {
    address: listener.address,
    get serving() {
      return !stopping;
    },
    reload: async () => {
      await Promise.all([listener.look(), revocations.look()]);
    },
    stop: () => (stopped ??= stop()),
  };
}

/** RPCs that may take long, and get `exportDeadline_ms`. */
const longRpcs: ReadonlySet<string> = new Set([
  "cardex.v1.AuditService/ExportEntries",
  "grpc.health.v1.Health/Watch",
  "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
  "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
]);

/** Time for the answers of calls that were ended by force to leave, milliseconds. */
const lastAnswers_ms = 250;

/** RPCs that end when the caller likes, and are not waited for. */
const endlessRpcs = /^grpc\./;

function newServer(edge: Edge, gate: Gate): Server {
  const server = new Server({
    interceptors: [gate.interceptor],
    "grpc.max_receive_message_length": edge.limits.messageSize_bytes,
    // More than the limit, so that a call too many is refused with its reason instead of waiting unseen in the client.
    "grpc.max_concurrent_streams": 2 * edge.limits.callsInFlightPerPrincipal,
    "grpc.max_connection_idle_ms": 600_000,
    "grpc.keepalive_time_ms": 60_000,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.enable_channelz": 0,
  });
  admitUnknownMethods(server);
  onForeignRequest(server, (stream) => {
    edge.journal.refused({ log: "system", what: "not gRPC", address: stream.session?.socket?.remoteAddress ?? "unknown" });
  });
  return server;
}

async function openListener(options: ServerOptions, injector: ConnectionInjector, revocations: Revocations): Promise<TlsListener> {
  try {
    return await TlsListener.open({ ...options, accept: (socket) => injector.injectConnection(socket) });
  } catch (error) {
    injector.destroy();
    revocations.close();
    throw error;
  }
}

/** Resolves when the calls under way have ended and their connections are closed. */
async function closed(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    server.tryShutdown(() => resolve());
  });
}

/** Waits, but no longer than this. */
async function within(work: Promise<void>, time_ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, time_ms);
  });
  await Promise.race([work, late]);
  clearTimeout(timer);
}

function stoppingFailure(): Failure {
  return new Failure("STOPPING", "this server is stopping; try another connection", { retryAfter_ms: 100 });
}
