import { afterEach, beforeEach, expect, test } from "vitest";
import { openLog } from "../log.js";
import { Metrics } from "../metrics.js";
import { type CheckResult, type Probe, startProbe } from "./probe.js";

let probe: Probe;
let database: () => CheckResult;

beforeEach(async () => {
  database = () => ({ ok: true });
  probe = await startProbe({
    listen: { host: "127.0.0.1", port: 0 },
    metrics: new Metrics(),
    log: openLog("silent"),
    checks: { database: () => database(), hsm: () => Promise.resolve({ ok: true, detail: "ready" }) },
    alerts: () => ["integrity"],
  });
});

afterEach(async () => {
  await probe.close();
});

async function get(path: string, method = "GET"): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${probe.address.port}${path}`, { method });
  return { status: response.status, text: await response.text() };
}

test("readiness names each check, and alerts, which alone do not make a server unready", async () => {
  const { status, text } = await get("/readyz");
  expect(status).toBe(200);
  expect(JSON.parse(text)).toEqual({ ready: true, checks: { database: { ok: true }, hsm: { ok: true, detail: "ready" } }, alerts: ["integrity"] });
});

test("a check that fails or throws makes the server unready, without its message", async () => {
  database = () => {
    throw new Error("password wrong for cardex@10.0.0.1");
  };
  const { status, text } = await get("/readyz");
  expect(status).toBe(503);
  expect(JSON.parse(text)).toMatchObject({ ready: false, checks: { database: { ok: false } } });
  expect(text).not.toContain("password");
});

test("liveness and metrics are there, and nothing else", async () => {
  expect(await get("/livez")).toEqual({ status: 200, text: "live\n" });
  expect((await get("/metrics")).text).toContain("cardex_calls_total");
  expect((await get("/")).status).toBe(404);
  expect((await get("/livez", "POST")).status).toBe(405);
});
