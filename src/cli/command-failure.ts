import { status } from "@grpc/grpc-js";
import { HsmError } from "../../hsm/hsm.js";
import { PolicyError } from "../access/rules.js";
import { ConfigError } from "../config.js";
import { ConnectError } from "../client/channels.js";
import { CardexError } from "../client/error.js";
import { Failure, type FailureReason } from "../failure.js";
import { type ExitCode, exitCodes } from "./exit-codes.js";

/** A command that did not succeed: one line that says what to do, and an exit code. The message never holds a PAN or a secret. */
export class CommandFailure extends Error {
  override readonly name = "CommandFailure";
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.exitCode = exitCode;
  }
}

/** A wrong option or argument. */
export function usageFailure(message: string): CommandFailure {
  return new CommandFailure(exitCodes.usage, message);
}

/** The exit code for the code of a call or of one item. */
export function exitCodeOf(code: number): ExitCode {
  switch (code) {
    case status.CANCELLED:
      return exitCodes.interrupted;
    case status.INVALID_ARGUMENT:
      return exitCodes.usage;
    case status.NOT_FOUND:
      return exitCodes.notFound;
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
      return exitCodes.denied;
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
    case status.RESOURCE_EXHAUSTED:
      return exitCodes.unavailable;
    case status.DATA_LOSS:
      return exitCodes.unverified;
    default:
      return exitCodes.failed;
  }
}

/** What to say and how to exit for anything that was thrown. Foreign errors are named by class and code, with their message. */
export function explain(error: unknown): CommandFailure {
  if (error instanceof CommandFailure) return error;
  if (error instanceof CardexError) return new CommandFailure(exitCodeOf(error.code), callLine(error), error);
  if (error instanceof ConnectError || error instanceof ConfigError) return new CommandFailure(exitCodes.usage, error.message, error);
  if (error instanceof Failure) return new CommandFailure(failureCodes[error.reason] ?? exitCodes.failed, error.message, error);
  if (error instanceof HsmError) return new CommandFailure(error.errorClass === "integrity" || error.errorClass === "key" ? exitCodes.unverified : exitCodes.unavailable, `HSM: ${error.message}`, error);
  if (error instanceof PolicyError) return new CommandFailure(exitCodes.usage, error.message, error);
  if (error instanceof Error && unreachable.has((error as NodeJS.ErrnoException).code ?? "")) return new CommandFailure(exitCodes.unavailable, unreachableText(error), error);
  if (error instanceof Error) return new CommandFailure(exitCodes.failed, fileLine(error) ?? error.message, error);
  return new CommandFailure(exitCodes.failed, "something that is no error was thrown", error);
}

/** One line for a call's error: reason, message, fields, and what to do where that is known. */
export function callLine(error: CardexError): string {
  const further = error.violations.filter(({ description }) => !error.message.includes(description)).map(({ field, description }) => `${field}: ${description}`);
  const message = connectionText(error.message);
  const said = further.length === 0 ? message : `${message} (${further.join("; ")})`;
  const advice = adviceFor(error);
  return `${error.reason}: ${said}${advice === undefined ? "" : `; ${advice}`}`;
}

/** What gRPC says of a connection that it did not get, without the words around the cause. Other messages as they are. */
function connectionText(message: string): string {
  const [, last] = /^No connection established\. Last error: (?:Error: )?([^]*?)\.?\s*Resolution note:\s*$/.exec(message) ?? [];
  if (last === undefined) return message;
  const [, tls] = /:SSL routines:[^:]*:([^:]+):/.exec(last) ?? [];
  return `no connection: ${tls ?? last.replace(/ \(\d{4}-\d\d-\d\dT[^)]*\)$/, "")}`;
}

function adviceFor(error: CardexError): string | undefined {
  if (error.retryAfter_ms !== undefined && error.retryAfter_ms > 0) return `try again in ${Math.ceil(error.retryAfter_ms / 1000)} s`;
  switch (error.reason) {
    case "UNAVAILABLE":
      return "is the server running at this address, and is the certificate one that it accepts?";
    case "DEADLINE_EXCEEDED":
      return "the server did not answer in time; try again, or give --timeout more seconds";
    case "DENIED":
      return "another identity may be allowed to (--as, or --cert and --key)";
    case "UNKNOWN_PRINCIPAL":
      return "the policy does not know the certificate's SPIFFE ID";
    default:
      return undefined;
  }
}

const failureCodes: Partial<Record<FailureReason, ExitCode>> = {
  INVALID_FIELD: exitCodes.usage,
  NOT_FOUND: exitCodes.notFound,
  DENIED: exitCodes.denied,
  UNKNOWN_PRINCIPAL: exitCodes.denied,
  LIMIT: exitCodes.unavailable,
  HSM_UNAVAILABLE: exitCodes.unavailable,
  STORE_UNAVAILABLE: exitCodes.unavailable,
  STOPPING: exitCodes.unavailable,
  DEADLINE: exitCodes.unavailable,
  INTEGRITY: exitCodes.unverified,
};

/** Of a connection made here, which is one to PostgreSQL. */
const unreachable = new Set(["ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "EAI_AGAIN"]);

/** Where a name has several addresses, the error says why each of them failed. */
function unreachableText(error: Error): string {
  const causes = error instanceof AggregateError ? error.errors.filter((each) => each instanceof Error) : [error];
  return `PostgreSQL can't be reached: ${causes.map(({ message }) => message).join("; ")}`;
}

const fileErrors: Readonly<Record<string, string>> = {
  ENOENT: "does not exist",
  EACCES: "can't be opened: permission denied",
  EPERM: "can't be changed: not permitted",
  EISDIR: "is a folder",
  ENOTDIR: "lies in something that is not a folder",
  ENOSPC: "can't be written: no space left on the disk",
  EROFS: "can't be written: the file system is read-only",
  EDQUOT: "can't be written: the disk quota is reached",
  EEXIST: "exists already",
  EMFILE: "can't be opened: too many open files",
};

function fileLine(error: NodeJS.ErrnoException): string | undefined {
  const text = error.code === undefined ? undefined : fileErrors[error.code];
  return text === undefined || error.syscall === undefined ? undefined : `${error.path ?? "what was named as a file"} ${text}`;
}
