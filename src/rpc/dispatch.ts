import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { handleServerStreamingCall, handleUnaryCall, UntypedServiceImplementation } from "@grpc/grpc-js";
import { Failure, invalidField } from "../failure.js";
import type { Arrival } from "./arrival.js";
import { answerStream } from "./answer-stream.js";
import type { Edge } from "./edge.js";
import { denied } from "./edge-call.js";
import type { Gate } from "./gate.js";
import type { ServiceHandlers, StreamHandler, UnaryHandler } from "./handler.js";
import { recordDone, refuse, withholdReleased } from "./outcome.js";
import { loggable } from "./redact.js";

/**
 * The handlers of a service as grpc-js takes them, each in the one wrapper that every call goes through: decode, access, handler, audit,
 * answer. Identity, limits and standing came before, at the gate.
 */
export function dispatchService<S extends DescService>(edge: Edge, gate: Gate, service: S, handlers: ServiceHandlers<S>): UntypedServiceImplementation {
  const implementation: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    const handler: unknown = handlers[method.localName as keyof S["method"]];
    if (typeof handler !== "function") throw new Error(`${service.typeName}.${method.name} has no handler`);
    if (method.methodKind === "unary") implementation[method.localName] = unary(edge, gate, method, handler.bind(handlers) as UnaryHandler<DescMethodUnary>);
    else if (method.methodKind === "server_streaming")
      implementation[method.localName] = serverStream(edge, gate, method, handler.bind(handlers) as StreamHandler<DescMethodServerStreaming>);
    else throw new Error(`${service.typeName}.${method.name}: client streams are not served yet`);
  }
  return implementation;
}

function unary(edge: Edge, gate: Gate, method: DescMethod, handler: UnaryHandler<DescMethodUnary>): handleUnaryCall<Buffer, Uint8Array> {
  return ({ metadata, request: bytes }, callback) => {
    const arrival = gate.arrivalOf(metadata);
    arrival.dispatch(async () => {
      try {
        const request = admit(edge, arrival, method, bytes);
        const message = await handler(request, arrival.call);
        const { view } = arrival.call;
        const answer = encode(method.output, message);
        if (arrival.aborted !== undefined && !arrival.call.audited) throw arrival.aborted;
        await recordDone(edge, arrival);
        if (arrival.call.view !== view) throw viewMoved();
        if (arrival.open) callback(null, answer);
        else withholdReleased(edge, arrival);
      } catch (error) {
        await refuse(edge, arrival, error);
      }
    });
  };
}

/** The policy gives another view than the one that the answer was made for, which must not leave. */
function viewMoved(): Failure {
  return new Failure("STORE_UNAVAILABLE", "the policy changed; try again", { retryAfter_ms: 100, inner: "policy" });
}

function serverStream(
  edge: Edge,
  gate: Gate,
  method: DescMethod,
  handler: StreamHandler<DescMethodServerStreaming>,
): handleServerStreamingCall<Buffer, Uint8Array> {
  return (stream) => {
    const arrival = gate.arrivalOf(stream.metadata);
    arrival.dispatch(async () => {
      try {
        const request = admit(edge, arrival, method, stream.request);
        const messages = handler(request, arrival.call);
        await answerStream(arrival, stream, messages, { encode: (message) => encode(method.output, message), beforeFirst: () => recordDone(edge, arrival) });
      } catch (error) {
        await refuse(edge, arrival, error);
      }
    });
  };
}

/**
 * Decodes the request and decides whether this caller may make it.
 * @throws Failure MALFORMED_MESSAGE, DENIED, UNKNOWN_PRINCIPAL or, for a missing purpose, INVALID_FIELD
 */
function admit(edge: Edge, { call }: Arrival, method: DescMethod, bytes: Buffer): MessageShape<DescMessage> {
  const request = decode(method.input, bytes);
  const asked = { service: method.parent.name, method: method.name };
  const purpose = readPurpose(method.input, request);
  if (purpose === "unknown") {
    call.checkStanding();
    // Who may not do this at all learns nothing about fields.
    throw edge.policy.decideForAnyPurpose({ principal: call.principal, ...asked }) ? invalidField("purpose", "is required; name one of the purposes") : denied();
  }
  call.purpose = purpose;
  call.decide({ ...asked, purpose });
  if (edge.log.isLevelEnabled("debug")) edge.log.debug({ call: call.id, rpc: call.rpc, request: loggable(method.input, request) }, "call");
  return request;
}

/** The purpose that a request states, without its prefix; undefined where the message has no such field, "unknown" where it states none. */
function readPurpose(schema: DescMessage, request: MessageShape<DescMessage>): string | undefined {
  const field = schema.field["purpose"];
  if (field?.fieldKind !== "enum") return undefined;
  const number = (request as unknown as Record<string, number>)[field.localName];
  const value = field.enum.values.find((each) => each.number === number && each.number !== 0);
  return value === undefined ? "unknown" : value.name.slice(field.enum.sharedPrefix?.length ?? 0);
}

function decode<D extends DescMessage>(schema: D, bytes: Buffer): MessageShape<D> {
  try {
    // Unknown fields are not kept: nothing may ride along unread.
    return fromBinary(schema, bytes, { readUnknownFields: false });
  } catch (error) {
    throw new Failure("MALFORMED_MESSAGE", "the bytes are not a message of this RPC", { cause: error });
  }
}

function encode<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Uint8Array {
  return toBinary(schema, create(schema, message));
}
