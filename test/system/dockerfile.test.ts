import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";

const checkout = fileURLToPath(new URL("../../../", import.meta.url));

interface Instruction {
  readonly name: string;
  readonly text: string;
}

interface Stage {
  readonly name: string;
  readonly base: string;
  readonly instructions: readonly Instruction[];
}

let stages: readonly Stage[];

beforeAll(async () => {
  stages = readStages(await readFile(join(checkout, "Dockerfile"), "utf8"));
});

function readStages(text: string): Stage[] {
  const lines = text.replaceAll(/^\s*#.*\n/gm, "").replaceAll(/\\\n\s*/g, " ").split("\n");
  const found: { name: string; base: string; instructions: Instruction[] }[] = [];
  for (const line of lines.filter((each) => each.trim() !== "")) {
    const [name = "", ...rest] = line.split(" ");
    const words = rest.join(" ");
    if (name === "FROM") {
      const [base = "", , alias = ""] = words.split(" ");
      found.push({ name: alias, base, instructions: [] });
    } else found.at(-1)?.instructions.push({ name, text: words });
  }
  return found;
}

function stage(name: string): Stage {
  const found = stages.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no stage ${name}`);
  return found;
}

function last(name: string, instruction: string): string | undefined {
  return stage(name).instructions.findLast((each) => each.name === instruction)?.text;
}

test("every base image is pinned to a version, and is the Node that the project supports", () => {
  const images = stages.map((each) => each.base).filter((base) => !stages.some((each) => each.name === base));
  expect(images.length).toBeGreaterThan(0);
  for (const image of images) expect(image).toMatch(/^node:\d+\.\d+\.\d+-[a-z]+-slim$/);
});

test("what is built when nobody names a target is the runtime stage", () => {
  expect(stages.at(-1)).toEqual({ name: "", base: "runtime", instructions: [] });
});

test("the server and the development image run as a user who is not root", () => {
  expect(last("runtime", "USER")).toBe("10001:10001");
  expect(last("development", "USER")).toBe("10001:10001");
});

test("SoftHSM2 is in the development target only, a compiler in none that runs", () => {
  const text = (name: string): string => stage(name).instructions.map((each) => each.text).join("\n");
  expect(text("development")).toContain("softhsm2");
  for (const name of ["deps", "build", "runtime"]) expect(text(name)).not.toContain("softhsm");
  expect(text("runtime")).not.toMatch(/g\+\+|apt-get/);
});

test("everything that is copied exists, and the list of what is sent to the builder lets it through", async () => {
  const ignored = (await readFile(join(checkout, ".dockerignore"), "utf8")).split("\n");
  const copied = stages.flatMap((each) => each.instructions).filter(({ name, text }) => name === "COPY" && !text.startsWith("--from="));
  for (const { text } of copied) {
    for (const source of text.split(" ").slice(0, -1)) {
      expect(existsSync(join(checkout, source)), source).toBe(true);
      expect(ignored, source).toContain(`!${source.split("/")[0]}`);
    }
  }
});

test("the health check succeeds for a server that is ready, and fails for one that is not or is away", async () => {
  expect(last("runtime", "HEALTHCHECK")).toContain('["node", "/cardex/deploy/probe.mjs"]');
  let status = 200;
  const server = createServer((_request, response) => response.writeHead(status).end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/readyz`;
  expect(await probe(url)).toBe(0);
  status = 503;
  expect(await probe(url)).toBe(1);
  await new Promise((resolve) => server.close(resolve));
  expect(await probe(url)).toBe(1);
});

function probe(url: string): Promise<number> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [join(checkout, "deploy/probe.mjs")], { env: { CARDEX_PROBE_URL: url } });
    child.once("exit", (code) => resolve(code ?? -1));
  });
}
