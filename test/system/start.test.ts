import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { environment } from "../../src/config.js";
import { isRunning, processIdentity } from "../../src/dev/process-identity.js";
import { freePort } from "../../src/dev/postgres.js";
import { layoutOf, type StateLayout } from "../../src/dev/state.js";
import { freshDatabase } from "../support/database.js";

const startModule = new URL("../../src/dev/start.js", import.meta.url).href;
const script = `
  const { start } = await import(${JSON.stringify(startModule)});
  start(process.argv.slice(1)).then(
    (code) => process.exit(code),
    (error) => {
      process.stderr.write(error.name + ": " + error.message + "\\n");
      process.exit(1);
    },
  );`;

let folder: string;
let layout: StateLayout;
let ports: string[];
const running: Starting[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-start-"));
  await chmod(folder, 0o711);
  layout = layoutOf(join(folder, ".cardex"));
  ports = ["--port", String(await freePort()), "--probe-port", String(await freePort())];
});

afterEach(async () => {
  for (const each of running.splice(0)) await each.end();
  await rm(folder, { recursive: true, force: true });
});

/** A start under way, with what it has written so far. */
class Starting {
  readonly child: ChildProcess;
  output = "";

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.child = spawn(process.execPath, ["--input-type=module", "-e", script, "--", "--state", layout.folder, ...ports, ...args], {
      env: { PATH: environment.get("PATH"), ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) stream?.on("data", (chunk: Buffer) => (this.output += chunk.toString()));
    running.push(this);
  }

  get over(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** Resolves to the exit code. */
  async ended(): Promise<number | null> {
    if (!this.over) await once(this.child, "close");
    return this.child.exitCode;
  }

  async says(text: string): Promise<void> {
    while (!this.output.includes(text)) {
      if (this.over) throw new Error(`it ended before it said "${text}":\n${this.output}`);
      await sleep(20);
    }
  }

  async end(): Promise<void> {
    this.child.kill("SIGTERM");
    await this.ended();
  }
}

/** Processes that the start made. */
async function made(): Promise<string[]> {
  const server = await readFile(layout.serverProcess, "utf8");
  const postmaster = (await readFile(join(layout.postgres, "data", "postmaster.pid"), "utf8")).split("\n")[0] ?? "";
  return [server, (await processIdentity(Number(postmaster))) ?? "0 0"];
}

test("a start from nothing shows what the vault does, and so does the next one on what is there", async () => {
  const first = new Starting(["--demo"]);
  expect(await first.ended(), first.output).toBe(0);
  expect(first.output).toContain("asks for the card number -> PERMISSION_DENIED");
  expect(first.output).toContain("every link verified");
  expect(first.output).toContain("1,000 equal, 0 different");
  const second = new Starting(["--demo"]);
  expect(await second.ended(), second.output).toBe(0);
  expect(second.output).not.toContain("made");
});

test("SIGTERM ends everything that a start made, and a second start meanwhile is told of the first", async () => {
  const start = new Starting([]);
  await start.says("The vault stays up");
  const processes = await made();
  const second = new Starting([]);
  expect(await second.ended()).toBe(1);
  expect(second.output).toBe(`Obstacle: a vault of this checkout is running or starting already (process ${start.child.pid}): use it, or end it there with Ctrl-C\n`);
  await start.end();
  expect(start.child.exitCode).toBe(0);
  for (const each of processes) expect(await isRunning(each)).toBe(false);
});

test("after kill -9 of a start nothing of it goes on running, and the next start finds every token", async () => {
  const start = new Starting([]);
  await start.says("The vault stays up");
  const processes = await made();
  start.child.kill("SIGKILL");
  for (const each of processes) while (await isRunning(each)) await sleep(20);
  const next = new Starting(["--demo"]);
  expect(await next.ended(), next.output).toBe(0);
  expect(next.output).toContain("every link verified");
});

test("a server that is killed is started again", async () => {
  const start = new Starting([]);
  await start.says("The vault stays up");
  const [server = ""] = await made();
  process.kill(Number(server.split(" ")[0]), "SIGKILL");
  await start.says("it was ended by SIGKILL); starting it again");
});

test("a state folder of which parts are missing or cut off is completed", async () => {
  const first = new Starting(["--demo"]);
  expect(await first.ended(), first.output).toBe(0);
  await rm(join(layout.certificates, "auditor.key"));
  await rm(layout.clientFile);
  await writeFile(layout.configFile, '{"profile": "dev');
  await writeFile(layout.stateFile, "");
  await rm(join(layout.hsm, "softhsm2.conf"));
  const second = new Starting(["--demo"]);
  expect(await second.ended(), second.output).toBe(0);
  expect(second.output).toContain("certificates made: auditor\n");
});

test("a wrong PIN, a lost PIN and a taken port are one line each that says what to do", async () => {
  const first = new Starting(["--demo"]);
  expect(await first.ended(), first.output).toBe(0);

  const other = createServer().listen(Number(ports[1]), "127.0.0.1");
  await once(other, "listening");
  const taken = new Starting(["--demo"]);
  expect(await taken.ended()).toBe(1);
  expect(taken.output).toBe(
    `Obstacle: port ${ports[1]} on 127.0.0.1 is taken by another program: end it, or choose another port with "npm start -- --port <number>"\n`,
  );
  await new Promise((resolve) => other.close(resolve));

  const pin = await readFile(layout.userPin, "utf8");
  await writeFile(layout.userPin, "wrong-pin-4711\n", { mode: 0o600 });
  const refusal = `Obstacle: the HSM token refused the PIN of ${layout.userPin}, and it is not tried again: put the right PIN there, then run "npm start -- --clear-pin-refusal"\n`;
  const wrong = new Starting(["--demo"]);
  expect(await wrong.ended()).toBe(1);
  expect(wrong.output).toBe(refusal);
  await writeFile(layout.userPin, pin, { mode: 0o600 });
  const still = new Starting(["--demo"]);
  expect(await still.ended()).toBe(1);
  expect(still.output).toBe(refusal);
  const cleared = new Starting(["--demo", "--clear-pin-refusal"]);
  expect(await cleared.ended(), cleared.output).toBe(0);

  await rm(layout.userPin);
  const lost = new Starting(["--demo"]);
  expect(await lost.ended()).toBe(1);
  expect(lost.output).toMatch(/^Obstacle: .*user\.pin is missing.*put it back from a backup.*\n$/);
});

test("PostgreSQL may be one that is there already", async () => {
  const database = await freshDatabase({ migrated: false });
  try {
    const start = new Starting(["--demo"], { CARDEX_DATABASE_URL: database.ownerUrl });
    expect(await start.ended(), start.output).toBe(0);
    expect(start.output).toContain("using the PostgreSQL of CARDEX_DATABASE_URL");
  } finally {
    await database.close();
  }
});

test("an option that nobody knows is named, with those that are known", async () => {
  const start = new Starting(["--dmeo"]);
  expect(await start.ended()).toBe(1);
  expect(start.output).toMatch(/^Obstacle: Unknown option '--dmeo'.*--demo/);
});
