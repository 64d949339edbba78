import type { DescMethod, DescMethodServerStreaming, DescMethodUnary, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { Channels, type ConnectOptions } from "./channels.js";
import { type CallDefaults, type CallOptions, invokeServerStream, invokeUnary } from "./invoke.js";
import { type RetryPolicy, standardRetries } from "./retry.js";

/** How a client connects and what its calls get. */
export interface ClientOptions extends ConnectOptions {
  /** Time for a unary call with all its attempts, in milliseconds; default 10,000. Streams have none unless a call says so. */
  readonly deadline_ms?: number;
  /** How calls are repeated that may be. */
  readonly retries?: RetryPolicy;
}

/** The RPCs of a service as methods: unary ones give a promise, server streams an AsyncIterable. */
export type ServiceClient<S extends DescService> = {
  readonly [K in keyof S["method"]]: S["method"][K] extends DescMethodServerStreaming
    ? (request: MessageInitShape<S["method"][K]["input"]>, options?: CallOptions) => AsyncIterable<MessageShape<S["method"][K]["output"]>>
    : S["method"][K] extends DescMethodUnary
      ? (request: MessageInitShape<S["method"][K]["input"]>, options?: CallOptions) => Promise<MessageShape<S["method"][K]["output"]>>
      : never;
};

/**
 * A client of one Cardex server (or several behind one address), with one identity. All methods throw CardexError.
 *
 * Reads are repeated when the server is away or at a limit, as long as the deadline allows. So is everything that carries a
 * request_id; where the caller gives none, the client makes one, so that a repeat is never done twice.
 */
export class CardexClient {
  /** TokenService: tokenize, detokenize, describe and revoke tokens. */
  readonly tokens: ServiceClient<typeof TokenService>;
  /** CardService: the card index. */
  readonly cards: ServiceClient<typeof CardService>;
  /** AuditService: the tenant's audit log. */
  readonly audit: ServiceClient<typeof AuditService>;
  readonly #channels: Channels;
  readonly #defaults: CallDefaults;

  private constructor(channels: Channels, defaults: CallDefaults) {
    this.#channels = channels;
    this.#defaults = defaults;
    this.tokens = this.service(TokenService);
    this.cards = this.service(CardService);
    this.audit = this.service(AuditService);
  }

  /**
   * Reads certificate and key. The connection itself is made by the first call.
   * @throws ConnectError
   */
  static async connect(options: ClientOptions): Promise<CardexClient> {
    const channels = await Channels.open(options);
    return new CardexClient(channels, { deadline_ms: options.deadline_ms ?? 10_000, retries: options.retries ?? standardRetries });
  }

  /** A client of any other service of the same server. */
  service<S extends DescService>(service: S): ServiceClient<S> {
    const methods = service.methods.map((method) => [method.localName, this.#method(method)] as const);
    return Object.fromEntries(methods) as ServiceClient<S>;
  }

  /** Ends the connections; calls under way end with CANCELLED. */
  close(): void {
    this.#channels.close();
  }

  #method(method: DescMethod): unknown {
    if (isUnary(method)) {
      return (request: MessageInitShape<DescMethodUnary["input"]>, options?: CallOptions) =>
        invokeUnary(this.#channels, method, request, this.#defaults, options);
    }
    if (isServerStream(method)) {
      return (request: MessageInitShape<DescMethodServerStreaming["input"]>, options?: CallOptions) =>
        invokeServerStream(this.#channels, method, request, options);
    }
    return undefined;
  }
}

function isUnary(method: DescMethod): method is DescMethodUnary {
  return method.methodKind === "unary";
}

function isServerStream(method: DescMethod): method is DescMethodServerStreaming {
  return method.methodKind === "server_streaming";
}
