import { execFile, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { tmpdir } from "node:os";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { CardService } from "../../gen/cardex/v1/card_service_pb.js";
import { ExpirySchema } from "../../gen/cardex/v1/card_pb.js";
import { TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { environment } from "../../src/config.js";
import { checkout } from "../support/checkout.js";
import { notShown } from "../support/command-session.js";
import { hasGo } from "../support/foreign-tools.js";
import { startInstallation } from "../support/installation.js";
import { fencesOf, readDocument } from "../support/markdown.js";

const run = promisify(execFile);
const source = "docs/examples/go/main.go";

/** A folder of Go packages, as Debian's golang-google-grpc-dev fills one, that has those of gRPC. */
const packages = hasGo
  ? [...spawnSync("go", ["env", "GOPATH"]).stdout.toString().trim().split(delimiter), "/usr/share/gocode"].find((folder) => existsSync(join(folder, "src/google.golang.org/grpc")))
  : undefined;

it("the Go example names only RPCs, messages and fields that there are", () => {
  const text = readDocument(source);
  const methods = [TokenService, CardService].flatMap(({ methods: all }) => all);
  const called = [...text.matchAll(/\btokens\.([A-Z]\w+)\(ctx/g)].map((match) => match[1]);
  expect(called.length).toBeGreaterThanOrEqual(4);
  for (const name of called) expect(methods.map((method) => method.name)).toContain(name);
  const messages = new Map([...methods.flatMap(({ input, output }) => [input, output]), ExpirySchema].map((message) => [message.name, message]));
  for (const [, name = "", body = ""] of text.matchAll(/&cardex\.(\w+)\{([^{}]*)/g)) {
    const fields = messages.get(name)?.fields.map((field) => goName(field.name));
    expect(fields, name).toBeDefined();
    for (const [, field] of body.matchAll(/(\w+):\s/g)) expect(fields, name).toContain(field);
  }
});

it.skipIf(packages === undefined)(`the Go example does what README shows${packages === undefined ? " (not run: there is no Go, or none with the packages of gRPC, here)" : ""}`, async () => {
  const vault = await startInstallation();
  const workspace = await mkdtemp(join(tmpdir(), "cardex-go-"));
  try {
    await run(join(checkout, "node_modules/.bin/buf"), ["generate", "--template", "docs/examples/go/buf.gen.yaml", "--output", workspace], { cwd: checkout });
    const program = join(workspace, "src/payment");
    await cp(join(checkout, "docs/examples/go/main.go"), join(program, "main.go"));
    await cp(join(workspace, "docs/examples/go/gen"), join(program, "gen"), { recursive: true });
    const at = (name: string): string => join(vault.layout.certificates, name);
    const env = {
      PATH: environment.get("PATH"),
      GO111MODULE: "off",
      GOPATH: [workspace, packages].join(delimiter),
      GOCACHE: join(workspace, "cache"),
      GOROOT: environment.get("GOROOT"),
      CARDEX_SERVER: `localhost:${vault.server().port}`,
      CARDEX_CA: at("ca.pem"),
      CARDEX_CERT: at("payment-gateway.pem"),
      CARDEX_KEY: at("payment-gateway.key"),
    };
    const { stdout } = await run("go", ["run", "."], { cwd: program, env });
    const shown = fencesOf("README.md").find(({ note }) => note === "example")?.text.replace("NOT_FOUND NOT_FOUND", "NotFound NOT_FOUND");
    expect(notShown(stdout, shown?.split("\n") ?? [])).toEqual([]);
  } finally {
    await vault.stop();
    await rm(workspace, { recursive: true, force: true });
  }
});

/** request_id -> RequestId, as protoc-gen-go writes it. */
function goName(name: string): string {
  return name.replaceAll(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
