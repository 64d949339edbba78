import { status as GrpcCode } from "@grpc/grpc-js";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Reason } from "../../gen/cardex/v1/reason_pb.js";
import type { HsmHealth } from "../../hsm/hsm.js";
import { defaultPolicy } from "../../src/access/administration.js";
import { exitCodes, exitCodesHelp } from "../../src/cli/exit-codes.js";
import { configTable } from "../../src/config.js";
import { Failure, type FailureReason } from "../../src/failure.js";
import { serverExit } from "../../src/main.js";
import { toStatus } from "../../src/rpc/status.js";
import { checkout } from "../support/checkout.js";
import { codeWords, fencesOf, readDocument, tableOf } from "../support/markdown.js";
import { rolesTable } from "./roles-table.js";

const rowsOf = (limits: boolean): string[][] =>
  configTable()
    .filter(({ path }) => path.startsWith("limits.") === limits)
    .map(({ path, fallback, text }) => [`\`${path}\``, fallback, text]);

describe("the tables of README say what the code says", () => {
  it("every setting with its default and meaning", () => {
    expect(tableOf("README.md", "setting")).toEqual(rowsOf(false));
  });

  it("every limit with its default and meaning", () => {
    expect(tableOf("README.md", "limit")).toEqual(rowsOf(true));
  });

  it("what each role of the default policy may do", async () => {
    expect(tableOf("README.md", "role")).toEqual(rolesTable(await defaultPolicy()));
  });

  it("every reason with its gRPC code", () => {
    const reasons = Object.values(Reason).filter((each): each is string => typeof each === "string" && each !== "UNSPECIFIED");
    const expected = reasons.map((reason) => [`\`${reason}\``, GrpcCode[toStatus(new Failure(reason as FailureReason, "")).code]]);
    expect(tableOf("README.md", "reason").map(([reason, code]) => [reason, code])).toEqual(expected);
  });

  it("every exit code, in the words of --help", () => {
    const rows = tableOf("README.md", "code");
    expect(rows.map(([code]) => Number(code))).toEqual(Object.values(exitCodes));
    for (const [code, meaning] of rows) expect(exitCodesHelp).toContain(`${code}  ${meaning}`);
    for (const code of [serverExit.pinRefused, serverExit.misconfigured]) expect(readDocument("README.md")).toContain(`${code} if `);
  });

  it("extracts of the examples stand in them as they are shown", () => {
    const extracts = fencesOf("README.md").filter(({ note }) => note.startsWith("docs/examples/"));
    expect(extracts.length).toBeGreaterThanOrEqual(3);
    for (const { note, text } of extracts) expect(readDocument(note).replaceAll(/^ +/gm, "")).toContain(text.replaceAll(/^ +/gm, ""));
  });
});

describe("docs/operations.md tells of everything that is raised", () => {
  it("every alert", () => {
    expect(tableOf("docs/operations.md", "alert").flatMap(([name = ""]) => codeWords(name)).toSorted()).toEqual(raisedAlerts().toSorted());
  });
});

/** Names of alerts, from where they are raised. */
function raisedAlerts(): string[] {
  const names = new Set<string>();
  for (const file of readdirSync(join(checkout, "src"), { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".ts") || file.endsWith(".test.ts")) continue;
    const text = readFileSync(join(checkout, "src", file), "utf8");
    for (const [, name = ""] of text.matchAll(/\b(?:alerts\.raise|alert)\(["`]([^"`]+)["`]/g)) names.add(name);
    const [, declared] = /interface KeyAlert \{\s+readonly name: "([^"]+)"/.exec(text) ?? [];
    if (declared !== undefined) names.add(declared);
  }
  // The HSM's state is the name, ready excepted.
  expect(names.delete("hsm.${state}")).toBe(true);
  const states: Record<Exclude<HsmHealth["state"], "ready">, true> = { recovering: true, "login-refused": true, failed: true };
  return [...names, ...Object.keys(states).map((state) => `hsm.${state}`)];
}
