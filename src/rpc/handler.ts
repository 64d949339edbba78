import type { DescMethodServerStreaming, DescMethodUnary, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Call } from "../call.js";

/** One unary RPC: the decoded request and the call in, the answer out, or a Failure thrown. */
export type UnaryHandler<M extends DescMethodUnary> = (
  request: MessageShape<M["input"]>,
  call: Call,
) => Promise<MessageInitShape<M["output"]>>;

/** One server-streaming RPC. The edge pulls; nothing is produced that the caller does not take (flow control). */
export type StreamHandler<M extends DescMethodServerStreaming> = (
  request: MessageShape<M["input"]>,
  call: Call,
) => AsyncIterable<MessageInitShape<M["output"]>>;

/** All RPCs of a service. A method without a handler does not compile. */
export type ServiceHandlers<S extends DescService> = {
  readonly [K in keyof S["method"]]: S["method"][K] extends DescMethodServerStreaming
    ? StreamHandler<S["method"][K]>
    : S["method"][K] extends DescMethodUnary
      ? UnaryHandler<S["method"][K]>
      : never;
};
