// Tokenizes a card, gets its number back for a payment, and reads a refusal: with @grpc/grpc-js and code generated from proto/.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { env } from "node:process";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Client, credentials, status } from "@grpc/grpc-js";
import { Purpose, TokenService } from "./gen/cardex/v1/token_service_pb.js";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";

const tls = credentials.createSsl(readFileSync(env.CARDEX_CA), readFileSync(env.CARDEX_KEY), readFileSync(env.CARDEX_CERT));
const client = new Client(env.CARDEX_SERVER, tls);

/** Calls a unary RPC. */
function call(method, request) {
  const path = `/${method.parent.typeName}/${method.name}`;
  const encode = (message) => Buffer.from(toBinary(method.input, create(method.input, message)));
  const decode = (bytes) => fromBinary(method.output, bytes);
  const deadline = new Date(Date.now() + 10_000);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, encode, decode, request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** The reason of a refused call, for example "NOT_FOUND"; undefined where no Cardex server answered. */
function reasonOf(error) {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  const details = bytes === undefined ? [] : fromBinary(StatusSchema, bytes).details;
  return details.map((detail) => anyUnpack(detail, ErrorInfoSchema)).find((info) => info?.domain === "cardex")?.reason;
}

const { tokenize, detokenize, revokeToken } = TokenService.method;
try {
  // The same request sent again gets the same answer.
  const { token, indexCode } = await call(tokenize, { requestId: randomUUID(), pan: "4111111111111111", expiry: { year: 2035, month: 12 } });
  console.log("token", token);
  console.log("index code", indexCode);

  const { pan } = await call(detokenize, { token, purpose: Purpose.PAYMENT });
  console.log("ends with", pan.slice(-4));

  await call(revokeToken, { requestId: randomUUID(), token });
  await call(detokenize, { token, purpose: Purpose.PAYMENT });
} catch (error) {
  console.log("after its revocation", status[error.code], reasonOf(error));
} finally {
  client.close();
}
