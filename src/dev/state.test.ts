import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Obstacle } from "./obstacle.js";
import { freePort } from "./postgres.js";
import { processIdentity } from "./process-identity.js";
import { takeStartLock } from "./start-lock.js";
import { choosePorts, layoutOf } from "./state.js";

let folder: string;
let taken: Server | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-state-"));
});

afterEach(async () => {
  taken?.close();
  taken = undefined;
  await rm(folder, { recursive: true, force: true });
});

async function take(port: number): Promise<void> {
  taken = createServer().listen(port, "127.0.0.1");
  await once(taken, "listening");
}

test("ports are chosen once and kept", async () => {
  const layout = layoutOf(folder);
  const first = await choosePorts(layout, { grpc: await freePort(), probe: await freePort() });
  expect(await choosePorts(layout)).toEqual(first);
});

test("a port that is taken is named, with what to do", async () => {
  const layout = layoutOf(folder);
  const ports = await choosePorts(layout, { grpc: await freePort(), probe: await freePort() });
  await take(ports.grpc);
  await expect(choosePorts(layout)).rejects.toThrow(`port ${ports.grpc} on 127.0.0.1 is taken by another program: end it, or choose another port`);
});

test("a state file that was cut off is made anew", async () => {
  const layout = layoutOf(folder);
  await writeFile(layout.stateFile, '{"ports": {"gr');
  expect((await choosePorts(layout, { grpc: await freePort(), probe: await freePort() })).postgres).toBeGreaterThan(0);
});

test("of two starts in one state folder the second is told of the first", async () => {
  const path = join(folder, "lock");
  const release = await takeStartLock(path);
  await expect(takeStartLock(path)).rejects.toThrow(`process ${process.pid}`);
  await expect(takeStartLock(path)).rejects.toBeInstanceOf(Obstacle);
  await release();
  await (await takeStartLock(path))();
  expect(await readdir(folder)).toEqual([]);
});

test("a lock that a killed start left is taken over, also if its process ID is used again", async () => {
  const path = join(folder, "lock");
  const child = spawn("/bin/sleep", ["60"], { stdio: "ignore" });
  const identity = await processIdentity(child.pid ?? 0);
  expect(identity).toMatch(/^\d+ \d+/);
  child.kill("SIGKILL");
  await once(child, "exit");
  await writeFile(path, identity ?? "");
  await (await takeStartLock(path))();
  await writeFile(path, `${process.pid} 1`);
  await (await takeStartLock(path))();
});
