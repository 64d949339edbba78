import canonicalize from "canonicalize";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable, Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { issueCertificate, makeAuthority } from "../dev/certificates.js";
import { exitCodes } from "./exit-codes.js";
import { buildProgram } from "./program.js";
import { run } from "./run.js";
import { Shell } from "./shell.js";

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-cli-"));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function cardex(words: readonly string[], stdin = ""): Promise<Ran> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const shell = new Shell({ stdin: Readable.from([Buffer.from(stdin)]), stdout, stderr });
  const code = await run(shell, words, { version: "0.0.0", debug: false });
  return { code, out: String(stdout.read() ?? ""), err: String(stderr.read() ?? "") };
}

describe("usage", () => {
  it.each([
    [["tokenise"], "unknown command"],
    [["tokenize"], "required option '--expiry"],
    [["tokenize", "--expiry", "soon"], "must be YYYY-MM"],
    [["detokenize", "tok_a"], "required option '--purpose"],
    [["detokenize", "tok_a", "--purpose", "fun"], "must be one of: payment"],
    [["detokenize", "--purpose", "payment", "--in", "x"], "--in and --compare belong together"],
    [["cards", "status", "tok_a", "cheerful"], "must be one of"],
    [["import", "x.csv"], "required option '--out"],
    [["import", "x.csv", "--out", "y", "--batch", "1001"], "from 1 to 1000"],
    [["cards", "get", "tok_a", "--state", "/nonexistent"], "no client profile /nonexistent/client.json"],
    [["cards", "get", "tok_a", "--cert", "x.pem"], "--cert and --key belong together"],
  ])("%j exits with 2 and says what is wrong", async (words, message) => {
    const { code, out, err } = await cardex(words);
    expect(err).toContain(message);
    expect(code).toBe(exitCodes.usage);
    expect(out).toBe("");
    expect(err).not.toContain("    at ");
  });

  it("does not repeat a card number that was given as an argument", async () => {
    for (const words of [["4111111111111111"], ["tokenize", "4111111111111111", "--expiry", "2030-12"], ["tokenize", "--expiry", "4111111111111111"]]) {
      const { code, err } = await cardex(words);
      expect(code).toBe(exitCodes.usage);
      expect(err).not.toContain("4111111111111111");
    }
  });

  it("every command that does something has a help with an example", async () => {
    const paths: string[][] = [];
    const walk = (command: ReturnType<typeof buildProgram>, path: string[]): void => {
      if (command.commands.length === 0) paths.push(path);
      for (const each of command.commands) walk(each, [...path, each.name()]);
    };
    walk(buildProgram(new Shell({ stdin: Readable.from([]), stdout: new PassThrough(), stderr: new PassThrough() }), "0.0.0"), []);
    expect(paths.length).toBeGreaterThan(10);
    for (const path of paths) {
      const { code, out } = await cardex([...path, "--help"]);
      expect(code).toBe(exitCodes.ok);
      expect(out).toMatch(new RegExp(`Examples?:\\n  (.* )?cardex ${path.join(" ")}`));
    }
  });

  it("tells every exit code in its help", async () => {
    const { out } = await cardex(["--help"]);
    for (const code of Object.values(exitCodes)) expect(out).toMatch(new RegExp(`^ +${code}  `, "m"));
  });
});

describe("a server that is not there", () => {
  it("is exit code 5 and one line that says what to look at", async () => {
    const profile = join(folder, "client.json");
    const { certPem, keyPem } = await issueCertificate(await makeAuthority("test"), { name: "client", usage: "client", uris: ["spiffe://test/tenant/demo/risk"] });
    await writeFile(join(folder, "cert.pem"), certPem);
    await writeFile(join(folder, "key.pem"), keyPem);
    await writeFile(profile, JSON.stringify({ server: "127.0.0.1:1", ca: "cert.pem", identities: { "risk-system": { cert: "cert.pem", key: "key.pem" } } }));
    const { code, err } = await cardex(["cards", "get", "tok_a", "--config", profile, "--timeout", "1"]);
    expect(code).toBe(exitCodes.unavailable);
    expect(err.trim().split("\n")).toHaveLength(1);
    expect(err).toContain("is the server running");
    const other = await cardex(["cards", "get", "tok_a", "--config", profile, "--as", "auditor"]);
    expect(other).toMatchObject({ code: exitCodes.usage, err: expect.stringContaining('no identity "auditor"') });
  });
});

describe("audit verify", () => {
  const lines: string[] = [];
  let prev = "0".repeat(64);
  for (let seq = 1; seq <= 3; seq += 1) {
    const line = canonicalize({ v: 1, log: "acme", stream: "s", seq, prev, kind: "call" }) ?? "";
    prev = createHash("sha256").update(line).digest("hex");
    lines.push(line);
  }
  const heads = JSON.stringify({ version: 1, from: null, to: null, heads: [{ stream: "s", seq: 3, hash: prev }] });

  async function verify(name: string, content: string, headsContent?: string): Promise<Ran> {
    const file = join(folder, name);
    await writeFile(file, content);
    if (headsContent !== undefined) await writeFile(`${file}.heads.json`, headsContent);
    return cardex(["audit", "verify", file]);
  }

  it("accepts a whole export, and says where heads are missing", async () => {
    expect(await verify("whole.jsonl", `${lines.join("\n")}\n`, heads)).toMatchObject({ code: exitCodes.ok, out: "3 entries of 1 streams: every chain verifies\n", err: "" });
    expect(await verify("bare.jsonl", `${lines.join("\n")}\n`)).toMatchObject({ code: exitCodes.ok, err: expect.stringContaining("would not be noticed") });
  });

  it("names the line that is wrong and exits with 6", async () => {
    const gap = await verify("gap.jsonl", `${lines.toSpliced(1, 1).join("\n")}\n`, heads);
    expect(gap).toMatchObject({ code: exitCodes.unverified, err: expect.stringContaining("line 2: stream s: has sequence number 3 where 2 was due") });
    const cut = await verify("cut.jsonl", `${lines.slice(0, 2).join("\n")}\n`, heads);
    expect(cut).toMatchObject({ code: exitCodes.unverified, err: expect.stringContaining("ends at entry 2, but its head is entry 3") });
    expect(await verify("crlf.jsonl", `${lines.join("\r\n")}\r\n`, heads)).toMatchObject({ code: exitCodes.unverified });
    expect(await verify("long.jsonl", `${"x".repeat(20_000)}\n`)).toMatchObject({ code: exitCodes.unverified, err: expect.stringContaining("more than 16384") });
  });

  it("says that a file is not there", async () => {
    expect(await cardex(["audit", "verify", join(folder, "none")])).toMatchObject({ code: exitCodes.failed, err: `cardex: ${join(folder, "none")} does not exist\n` });
  });
});

it("ends quietly when the reader of its output goes away", async () => {
  const stdout = new Writable({ write: (_chunk, _encoding, done) => done(Object.assign(new Error("write EPIPE"), { code: "EPIPE" })) });
  const stderr = new PassThrough();
  const shell = new Shell({ stdin: Readable.from([]), stdout, stderr });
  await writeFile(join(folder, "empty.jsonl"), "");
  expect(await run(shell, ["audit", "verify", join(folder, "empty.jsonl"), "--json"], { version: "0.0.0", debug: false })).toBe(exitCodes.ok);
  expect(stderr.read()).toBeNull();
});

it("says in one line that the output can't be written", async () => {
  const stdout = new Writable({
    write: (_chunk, _encoding, done) => done(Object.assign(new Error("no space"), { code: "ENOSPC", syscall: "write" })),
  });
  const stderr = new PassThrough();
  const shell = new Shell({ stdin: Readable.from([]), stdout, stderr });
  expect(await run(shell, ["--help"], { version: "0.0.0", debug: false })).toBe(exitCodes.failed);
  expect(String(stderr.read())).toBe("cardex: the output can't be written: no space left on the disk\n");
});
