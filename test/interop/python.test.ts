import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkout } from "../support/checkout.js";
import { grpcPythonPlugin, hasForeignTools, systemPython } from "../support/foreign-tools.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";

const run = promisify(execFile);
const protoFiles = [
  ...["audit_service", "card", "card_service", "reason", "token_service"].map((name) => `cardex/v1/${name}.proto`),
  ...["status", "error_details"].map((name) => `google/rpc/${name}.proto`),
];

describe.skipIf(!hasForeignTools)(`a client that has nothing to do with this project${hasForeignTools ? "" : " (not run: no protoc or no gRPC for Python here)"}`, () => {
  let vault: TestInstallation;
  let generated: string;
  const steps = new Map<string, Record<string, unknown>>();

  beforeAll(async () => {
    vault = await startInstallation();
    generated = join(await mkdtemp(join(tmpdir(), "cardex-foreign-")), "gen");
    await mkdir(generated);
    // Debian's protoc does not know the option debug_redact; the compiled API does not need it to.
    const image = join(checkout, "proto", "released.binpb");
    const plugin = `--plugin=protoc-gen-grpc_python=${grpcPythonPlugin}`;
    await run("/usr/bin/protoc", [`--descriptor_set_in=${image}`, plugin, `--python_out=${generated}`, `--grpc_python_out=${generated}`, ...protoFiles]);
    const program = join(checkout, "test", "interop", "foreign_client.py");
    const { stdout } = await run(systemPython, ["-B", program, generated, `localhost:${vault.server().port}`, vault.layout.certificates]);
    for (const line of stdout.trim().split("\n")) {
      const { step, ...found } = JSON.parse(line) as { step: string };
      steps.set(step, found);
    }
  });

  afterAll(async () => {
    await vault?.stop();
    await rm(join(generated, ".."), { recursive: true, force: true });
  });

  it("tokenizes over mTLS, and the same request again gets the same answer", () => {
    expect(steps.get("tokenize")).toEqual({ token: expect.stringMatching(/^tok_[a-z2-7]{32}$/), index_code: expect.stringMatching(/^[0-9]{16}$/), bin: "41111111", known: false });
    expect(steps.get("repeat")).toEqual({ same: true });
  });

  it("gets the card number back", () => {
    expect(steps.get("detokenize")).toEqual({ equal: true, year: 2035 });
  });

  it("gets an answer for each item of a batch, in order", () => {
    expect(steps.get("batch")).toEqual({ results: ["response", "error", "response"], reason: "REASON_INVALID_FIELD", fields: ["pan"] });
    expect(steps.get("batch back")).toEqual({ results: ["response", "error", "response"], equal: [true, false, true] });
  });

  it("reads why it was refused from google.rpc.Status", () => {
    expect(steps.get("bad field")).toEqual({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD", domain: "cardex", fields: ["pan"] });
    expect(steps.get("other request")).toEqual({ code: "ALREADY_EXISTS", reason: "REQUEST_ID_REUSED" });
    expect(steps.get("denied")).toEqual({ code: "PERMISSION_DENIED", reason: "DENIED" });
    expect(steps.get("no certificate")).toEqual({ code: "UNAVAILABLE" });
  });

  it("sees the card as a risk system does", () => {
    expect(steps.get("card")).toEqual({ status: "CARD_STATUS_ACTIVE", last_four: "1111", index_code: steps.get("tokenize")?.["index_code"] });
  });

  it("exports the log of all this, in which no card number stands", () => {
    const { entries, heads, names_token } = steps.get("export") as Record<string, number>;
    expect(entries).toBeGreaterThanOrEqual(8);
    expect(heads).toBeGreaterThanOrEqual(2);
    // Tokenize, its repeat, Detokenize, one of the batch, the risk system's GetCard.
    expect(names_token).toBeGreaterThanOrEqual(4);
    expect(steps.get("export")).toMatchObject({ holds_pan: false });
  });
});
