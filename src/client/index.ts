/** The Cardex client. Everything that a caller needs; message and enum types come from the generated code of cardex.v1. */
export { CardexClient, type ClientOptions, type ServiceClient } from "./client.js";
export { ConnectError, type ConnectOptions } from "./channels.js";
export { CardexError, type CardexErrorDetail, itemFailure, type Violation } from "./error.js";
export type { CallOptions } from "./invoke.js";
export { type RetryPolicy, standardRetries } from "./retry.js";
export * from "../../gen/cardex/v1/audit_service_pb.js";
export * from "../../gen/cardex/v1/card_pb.js";
export * from "../../gen/cardex/v1/card_service_pb.js";
export * from "../../gen/cardex/v1/reason_pb.js";
export * from "../../gen/cardex/v1/token_service_pb.js";
