import { status } from "@grpc/grpc-js";
import { expect, it } from "vitest";
import { CardexError } from "../client/error.js";
import { callLine, exitCodeOf, explain } from "./command-failure.js";
import { exitCodes } from "./exit-codes.js";

it("tells a field once, whether or not the message names it", () => {
  const violations = [{ field: "pan", description: "is too short" }];
  expect(callLine(new CardexError(3, "INVALID_FIELD", "pan: is too short", { violations }))).toBe("INVALID_FIELD: pan: is too short");
  expect(callLine(new CardexError(3, "INVALID_FIELD", "a field is wrong", { violations }))).toBe("INVALID_FIELD: a field is wrong (pan: is too short)");
});

it("says when to try again", () => {
  expect(callLine(new CardexError(8, "LIMIT", "too much", { retryAfter_ms: 1500 }))).toBe("LIMIT: too much; try again in 2 s");
});

it.each([
  [status.INVALID_ARGUMENT, exitCodes.usage],
  [status.NOT_FOUND, exitCodes.notFound],
  [status.PERMISSION_DENIED, exitCodes.denied],
  [status.UNAUTHENTICATED, exitCodes.denied],
  [status.UNAVAILABLE, exitCodes.unavailable],
  [status.DEADLINE_EXCEEDED, exitCodes.unavailable],
  [status.RESOURCE_EXHAUSTED, exitCodes.unavailable],
  [status.DATA_LOSS, exitCodes.unverified],
  [status.CANCELLED, exitCodes.interrupted],
  [status.FAILED_PRECONDITION, exitCodes.failed],
  [status.INTERNAL, exitCodes.failed],
])("code %i becomes exit code %i", (code, exitCode) => {
  expect(exitCodeOf(code)).toBe(exitCode);
});

it("names the file and what is wrong with it", () => {
  expect(explain(Object.assign(new Error("x"), { code: "ENOSPC", syscall: "write", path: "out.csv" })).message).toBe("out.csv can't be written: no space left on the disk");
  expect(explain("a string").message).not.toContain("a string");
});

it.each([
  ["Error: connect ECONNREFUSED 127.0.0.1:1. Resolution note: ", "connect ECONNREFUSED 127.0.0.1:1"],
  ["Failed to connect (2026-11-22T02:50:29.017Z). Resolution note: ", "Failed to connect"],
  ["Error: 80E:error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../record.c:350:\n. Resolution note: ", "wrong version number"],
])("tells the cause of a missing connection alone: %s", (words, cause) => {
  expect(callLine(new CardexError(status.UNAVAILABLE, "UNAVAILABLE", `No connection established. Last error: ${words}`))).toMatch(`UNAVAILABLE: no connection: ${cause}; is the server`);
});

it("has a code of its own for a PostgreSQL that can't be reached", () => {
  const refused = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:1"), { code: "ECONNREFUSED", syscall: "connect" });
  expect(explain(refused)).toMatchObject({ exitCode: exitCodes.unavailable, message: "PostgreSQL can't be reached: connect ECONNREFUSED 127.0.0.1:1" });
});
