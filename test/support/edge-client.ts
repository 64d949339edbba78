import { create, type DescMessage, type DescMethod, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { type CallOptions, Client, credentials, Metadata, type ServiceError, status as GrpcCode } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, PreconditionFailureSchema, QuotaFailureSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import type { KeyedCertificate } from "../../src/dev/certificates.js";
import { pathOf } from "../../src/rpc/definition.js";
import type { TestEdge } from "./edge.js";

/** How a call ended that did not succeed. */
export interface RefusedCall {
  readonly code: string;
  readonly text: string;
  /** ErrorInfo.reason. */
  readonly reason: string | undefined;
  /** Messages of google.rpc, in order. */
  readonly details: readonly { readonly $typeName: string }[];
  /** grpc-status-details-bin as it came. */
  readonly bytes: Buffer | undefined;
}

/** A client with a connection of its own. */
export function connect(edge: TestEdge, certificate: KeyedCertificate, authority = edge.authority): Client {
  const channel = credentials.createSsl(Buffer.from(authority.certPem), Buffer.from(certificate.keyPem), Buffer.from(certificate.certPem));
  return new Client(`127.0.0.1:${edge.server.address.port}`, channel, { "grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0 });
}

/** Calls a unary RPC. @throws ServiceError */
export async function callUnary<M extends DescMethod>(
  client: Client,
  method: M,
  request: MessageInitShape<M["input"]>,
  options: CallOptions = {},
): Promise<MessageShape<M["output"]>> {
  const input: DescMessage = method.input;
  const bytes = await callBytes(client, pathOf(method), toBinary(input, create(input, request)), options);
  return fromBinary(method.output as M["output"], bytes);
}

/** Calls a path with bytes that need not be a message. @throws ServiceError */
export async function callBytes(client: Client, path: string, bytes: Uint8Array, options: CallOptions = {}): Promise<Buffer> {
  return await new Promise((resolve, reject) => {
    const same = (value: Buffer): Buffer => value;
    client.makeUnaryRequest(path, same, same, Buffer.from(bytes), new Metadata(), options, (error, answer) => {
      if (error !== null) reject(error);
      else resolve(answer ?? Buffer.alloc(0));
    });
  });
}

/** The refusal that this call must end with. */
export async function refusalOf(work: Promise<unknown>): Promise<RefusedCall> {
  try {
    await work;
  } catch (error) {
    return readRefusal(error as ServiceError);
  }
  throw new Error("the call succeeded");
}

/** Reads google.rpc.Status from a gRPC error. */
export function readRefusal(error: ServiceError): RefusedCall {
  const bytes = error.metadata?.get("grpc-status-details-bin")[0];
  const details = (Buffer.isBuffer(bytes) ? fromBinary(StatusSchema, bytes).details : []).map((any) => {
    for (const schema of [ErrorInfoSchema, BadRequestSchema, PreconditionFailureSchema, QuotaFailureSchema, RetryInfoSchema]) {
      const message = anyUnpack(any, schema);
      if (message !== undefined) return message;
    }
    throw new Error(`unexpected detail ${any.typeUrl}`);
  });
  const info = details.find((detail) => detail.$typeName === "google.rpc.ErrorInfo");
  return {
    code: GrpcCode[error.code],
    text: error.details,
    reason: info !== undefined && "reason" in info ? info.reason : undefined,
    details,
    bytes: Buffer.isBuffer(bytes) ? bytes : undefined,
  };
}
