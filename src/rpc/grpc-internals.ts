import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Server, ServerInterceptingCallInterface } from "@grpc/grpc-js";

/*
 * The one file that reaches into grpc-js beyond its public interface, because what grpc-js answers by itself must be audited too. Each
 * function fails at start if grpc-js is no longer built as it expects (src/server.ts and src/server-interceptors.ts of 1.14).
 */

/** Path under which calls of methods that nobody registered arrive at the interceptors. */
export const unknownPath = "/unknown";

interface Registered {
  readonly func: () => void;
  readonly serialize: (value: Buffer) => Buffer;
  readonly deserialize: (bytes: Buffer) => Buffer;
  readonly type: "unary";
  readonly path: string;
}

const unknownMethod: Registered = { func: () => {}, serialize: (bytes) => bytes, deserialize: (bytes) => bytes, type: "unary", path: unknownPath };

/** grpc-js looks a method up here before any interceptor runs; what it does not find, it answers unseen. */
class MethodsOrUnknown extends Map<string, unknown> {
  override get(path: string): unknown {
    return super.get(path) ?? unknownMethod;
  }
}

/** Makes calls of unknown methods reach the interceptors, under `unknownPath`. Call it before any service is added. */
export function admitUnknownMethods(server: Server): void {
  const inside = server as unknown as { handlers: unknown };
  if (!(inside.handlers instanceof Map) || inside.handlers.size > 0) throw new Error("grpc-js has changed: Server.handlers is no empty Map");
  inside.handlers = new MethodsOrUnknown();
}

type VerifyContentType = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean;

/** Tells of each HTTP/2 request that is no gRPC call; grpc-js answers it with 415. */
export function onForeignRequest(server: Server, tell: (stream: ServerHttp2Stream) => void): void {
  const inside = server as unknown as { _verifyContentType: VerifyContentType };
  const verify = inside._verifyContentType;
  if (typeof verify !== "function") throw new Error("grpc-js has changed: Server._verifyContentType is no function");
  inside._verifyContentType = (stream, headers) => {
    const isGrpc = verify.call(server, stream, headers);
    if (!isGrpc) tell(stream);
    return isGrpc;
  };
}

/** The HTTP/2 stream below a call, as an interceptor gets it. */
function streamOf(call: ServerInterceptingCallInterface): ServerHttp2Stream {
  const { stream } = call as unknown as { stream: ServerHttp2Stream | undefined };
  if (typeof stream?.close !== "function") throw new Error("grpc-js has changed: a call has no stream");
  return stream;
}

/** Whether the stream below a call has ended, so that nothing handed to it can leave any more. */
export function hasEnded(call: ServerInterceptingCallInterface): boolean {
  const stream = streamOf(call);
  return stream.destroyed || stream.closed;
}

/** Resets the stream below a call whose caller does not take the answer. */
export function resetStream(call: ServerInterceptingCallInterface): void {
  const stream = streamOf(call);
  if (!stream.destroyed) stream.close(8 /* CANCEL, RFC 9113 7 */);
}
