import { connect as connectHttp2 } from "node:http2";
import type { Client, ServiceError } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { startEdge, type TestEdge } from "../../test/support/edge.js";
import { callBytes, callUnary, connect, readRefusal, refusalOf } from "../../test/support/edge-client.js";

const { getToken } = TokenService.method;
let edge: TestEdge;
let client: Client;
let release: () => void;
let underWay: number;

beforeEach(async () => {
  edge = await startEdge({ callsInFlight: 3, callsInFlightPerPrincipal: 2, infrastructureStreams: 2, callDeadline_ms: 2000, drain_ms: 300 });
  client = connect(edge, await edge.issueFor("payment-gateway"));
  underWay = 0;
  const released = new Promise<void>((resolve) => (release = resolve));
  edge.tokens.getToken = async (_request, call) => {
    underWay += 1;
    await Promise.race([released, new Promise<void>((_resolve, reject) => call.signal.addEventListener("abort", () => reject(new Error("stopped")), { once: true }))]);
    return {};
  };
});

afterEach(async () => {
  release();
  client.close();
  await edge.close();
});

describe("calls in flight", () => {
  test("beyond the limit of a principal are refused at once, as sums, and let in again afterwards", async () => {
    const first = callUnary(client, getToken, {});
    const second = callUnary(client, getToken, {});
    await vi.waitFor(() => expect(underWay).toBe(2));
    expect(await refusalOf(callUnary(client, getToken, {}))).toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      reason: "LIMIT",
      details: [{}, { violations: [{ subject: "callsInFlightPerPrincipal" }] }, { $typeName: "google.rpc.RetryInfo" }],
    });
    expect(edge.journal.refusals).toMatchObject([{ log: "acme", what: "callsInFlightPerPrincipal" }]);
    expect(edge.journal.entries).toEqual([]);
    release();
    await Promise.all([first, second]);
    await callUnary(client, getToken, {});
  });

  test("beyond the limit of the process are refused whoever calls", async () => {
    const other = connect(edge, await edge.issueFor("card-operations"));
    const calls = [callUnary(client, getToken, {}), callUnary(client, getToken, {}), callUnary(other, getToken, {})];
    await vi.waitFor(() => expect(underWay).toBe(3));
    expect(await refusalOf(callUnary(other, getToken, {}))).toMatchObject({ reason: "LIMIT", details: [{}, { violations: [{ subject: "callsInFlight" }] }, {}] });
    release();
    await Promise.all(calls);
    other.close();
  });

  test("end at the server's own deadline where the caller has none, and give their place back", async () => {
    expect(await refusalOf(callUnary(client, getToken, {}))).toMatchObject({ code: "DEADLINE_EXCEEDED", reason: "DEADLINE" });
    await vi.waitFor(async () => expect(await edge.metrics.text()).toContain("cardex_calls_in_flight 0"));
    expect(edge.journal.entries).toMatchObject([{ outcome: "failed" }]);
  });
});

test("streams of health and reflection have a limit of their own, and take no place from calls", async () => {
  const same = (value: Buffer): Buffer => value;
  const watch = () => client.makeServerStreamRequest("/grpc.health.v1.Health/Watch", same, same, Buffer.alloc(0));
  const reflect = () => client.makeBidiStreamRequest("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", same, same);
  const watched = watch();
  const reflected = reflect();
  for (const stream of [watched, reflected]) stream.on("error", () => {});
  await new Promise((resolve) => watched.once("data", resolve));
  reflected.write(Buffer.concat([Buffer.from([0x3a, 1]), Buffer.from("*")]));
  await new Promise((resolve) => reflected.once("data", resolve));
  for (const stream of [watch(), reflect()]) {
    const error = await new Promise<ServiceError>((resolve) => stream.once("error", (each: ServiceError) => resolve(each)));
    expect(readRefusal(error)).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "LIMIT", details: [{}, { violations: [{ subject: "infrastructureStreams" }] }, {}] });
  }
  expect(await edge.metrics.text()).toContain("cardex_calls_in_flight 0");
  edge.tokens.getToken = () => Promise.resolve({});
  await Promise.all([callUnary(client, getToken, {}), callUnary(client, getToken, {})]);
  watched.cancel();
  await vi.waitFor(async () => {
    const another = watch();
    const served = new Promise<boolean>((resolve) => {
      another.once("data", () => resolve(true));
      another.once("error", () => resolve(false));
    });
    expect(await served).toBe(true);
    another.cancel();
  });
  reflected.cancel();
});

test("a caller that never takes its answer loses its call after the deadline, and the place is free again", async () => {
  edge.tokens.getToken = () => Promise.resolve({ token: { token: "tok_x" } });
  const certificate = await edge.issueFor("payment-gateway");
  const session = connectHttp2(`https://127.0.0.1:${edge.server.address.port}`, {
    ca: edge.authority.certPem,
    cert: certificate.certPem,
    key: certificate.keyPem,
    settings: { initialWindowSize: 0 },
  });
  const stream = session.request({ ":method": "POST", ":path": "/cardex.v1.TokenService/GetToken", "content-type": "application/grpc", te: "trailers" });
  stream.on("error", () => {});
  stream.end(Buffer.from([0, 0, 0, 0, 0]));
  const closed = new Promise<number>((resolve) => stream.once("close", () => resolve(stream.rstCode)));
  await vi.waitFor(async () => expect(await edge.metrics.text()).toContain("cardex_calls_in_flight 1"));
  expect(await closed).toBe(8);
  await vi.waitFor(async () => expect(await edge.metrics.text()).toContain("cardex_calls_in_flight 0"));
  session.destroy();
});

describe("a server that stops", () => {
  test("lets calls under way end, refuses new ones, and says so in its health", async () => {
    const call = callUnary(client, getToken, {});
    await vi.waitFor(() => expect(underWay).toBe(1));
    const stopped = edge.server.stop();
    expect(edge.server.serving).toBe(false);
    expect((await refusalOf(callBytes(client, "/grpc.health.v1.Health/Check", Buffer.alloc(0)))).code).toBe("UNAVAILABLE");
    release();
    await call;
    await stopped;
    expect(edge.journal.entries).toMatchObject([{ outcome: "done" }]);
  });

  test("ends by force what does not end in time, audited", async () => {
    const call = refusalOf(callUnary(client, getToken, {}));
    await vi.waitFor(() => expect(underWay).toBe(1));
    await edge.server.stop();
    expect((await call).code).toBe("UNAVAILABLE");
    await vi.waitFor(() => expect(edge.journal.entries).toMatchObject([{ outcome: "failed", reason: "STOPPING" }]));
  });
});
