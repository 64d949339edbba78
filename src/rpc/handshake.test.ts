import { writeFile } from "node:fs/promises";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { TokenService } from "../../gen/cardex/v1/token_service_pb.js";
import { startEdge, type TestEdge } from "../../test/support/edge.js";
import { makeIntermediate } from "../../test/support/intermediate.js";
import { callUnary, connect as connectGrpc } from "../../test/support/edge-client.js";
import { issueCertificate, type KeyedCertificate, makeAuthority, spiffeId } from "../dev/certificates.js";

const day_ms = 86_400_000;
let edge: TestEdge;
let sockets: TLSSocket[];

beforeAll(async () => {
  edge = await startEdge({ connections: 8 });
});

afterAll(async () => {
  await edge.close();
});

beforeEach(() => {
  edge.journal.clear();
  edge.alerts.length = 0;
  sockets = [];
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await vi.waitFor(async () => expect(await edge.metrics.text()).toContain("cardex_connections 0"));
});

/** Connects, and answers once the server has spoken HTTP/2 (its settings) or ended the connection. */
async function knock(certificate: KeyedCertificate | undefined, options: ConnectionOptions = {}): Promise<"let in" | "refused"> {
  const socket = connect({
    host: "127.0.0.1",
    port: edge.server.address.port,
    ca: edge.authority.certPem,
    servername: "localhost",
    ALPNProtocols: ["h2"],
    ...(certificate === undefined ? {} : { cert: certificate.certPem, key: certificate.keyPem }),
    ...options,
  });
  sockets.push(socket);
  return await new Promise((resolve) => {
    socket.once("data", () => resolve("let in"));
    socket.once("error", () => resolve("refused"));
    socket.once("close", () => resolve("refused"));
  });
}

function dayAgo(days: number): Date {
  return new Date(Date.parse("2026-01-01") - days * day_ms);
}

describe("a handshake", () => {
  test("of a certificate of our CA that names a principal succeeds", async () => {
    expect(await knock(await edge.issue({}))).toBe("let in");
    expect(edge.journal.refusals).toEqual([]);
  });

  test.each<[string, () => Promise<KeyedCertificate | undefined>, ConnectionOptions, RegExp]>([
    ["without a certificate", () => Promise.resolve(undefined), {}, /^PEER_DID_NOT_RETURN_A_CERTIFICATE$/],
    ["of a certificate of another CA", async () => await issueCertificate(await makeAuthority("other CA"), { name: "x", usage: "client", uris: [spiffeId("cardex.test", "acme", "x")] }), {}, /UNABLE_TO_|SELF_SIGNED/],
    ["of a certificate that signed itself", () => makeAuthority("self"), {}, /SELF_SIGNED|INVALID_PURPOSE/],
    ["of an expired certificate", () => edge.issue({ notBefore: dayAgo(20), notAfter: dayAgo(10) }), {}, /^CERT_HAS_EXPIRED$/],
    ["of a certificate that is not valid yet", () => edge.issue({ notBefore: new Date(Date.parse("2090-01-01")), notAfter: new Date(Date.parse("2091-01-01")) }), {}, /^CERT_NOT_YET_VALID$/],
    ["of a certificate for servers", () => edge.issue({ usage: "server" }), {}, /INVALID_PURPOSE|UNSUITABLE/],
    ["without a SPIFFE URI", () => edge.issue({ uris: [] }), {}, /^NO_URI$/],
    ["with two URIs", () => edge.issue({ uris: [spiffeId("cardex.test", "acme", "x"), spiffeId("cardex.test", "other", "x")] }), {}, /^SEVERAL_URIS$/],
    ["of another trust domain", () => edge.issue({ uris: [spiffeId("other.test", "acme", "x")] }), {}, /^OTHER_TRUST_DOMAIN$/],
    ["with TLS 1.2", () => edge.issue({}), { maxVersion: "TLSv1.2" }, /^UNSUPPORTED_PROTOCOL$/],
    ["for another protocol than HTTP/2", () => edge.issue({}), { ALPNProtocols: ["http/1.1"] }, /ALPN|NO_APPLICATION_PROTOCOL/],
    ["for no protocol", () => edge.issue({}), { ALPNProtocols: [] }, /^NO_ALPN$/],
  ])("%s is refused, and audited with its reason and address", async (_name, certificate, options, reason) => {
    expect(await knock(await certificate(), options)).toBe("refused");
    await vi.waitFor(() => expect(edge.journal.refusals).toHaveLength(1));
    expect(edge.journal.refusals[0]).toMatchObject({ log: "system", what: "handshake", address: "127.0.0.1" });
    expect(edge.journal.refusals[0]?.reason).toMatch(reason);
  });

  test("can't resume an earlier session, whose certificate would not be seen", async () => {
    const certificate = await edge.issue({});
    await knock(certificate);
    const session = sockets[0]?.getSession();
    expect(session).toBeDefined();
    expect(await knock(certificate, { session })).toBe("let in");
    expect(sockets[1]?.isSessionReused()).toBe(false);
    expect(await knock(undefined, { session })).toBe("refused");
  });

  test("beyond the limit of connections is refused, and audited as a sum", async () => {
    const certificate = await edge.issue({});
    for (let i = 0; i < 8; i += 1) expect(await knock(certificate)).toBe("let in");
    expect(await knock(certificate)).toBe("refused");
    expect(edge.journal.refusals).toMatchObject([{ log: "system", what: "connections", address: "127.0.0.1" }]);
  });
});

describe("a connection", () => {
  test("whose certificate is of a CA that was taken out of the CA file is ended, and no other", async () => {
    const [other, { root, intermediate }] = await Promise.all([makeAuthority("other CA"), makeIntermediate()]);
    const request = { name: "x", usage: "client" as const, uris: [spiffeId("cardex.test", "acme", "x")] };
    const [direct, chained, foreign] = [await edge.issue({}), await issueCertificate(intermediate, request), await issueCertificate(other, request)];
    await writeFile(edge.config.tls.clientCaFile, edge.authority.certPem + root.certPem + other.certPem);
    await edge.server.reload();
    for (const certificate of [direct, { ...chained, certPem: chained.certPem + intermediate.certPem }, foreign]) expect(await knock(certificate)).toBe("let in");
    const [stays, staysToo, goes] = sockets;
    const gone = new Promise((resolve) => goes?.once("close", resolve));
    await writeFile(edge.config.tls.clientCaFile, root.certPem + edge.authority.certPem);
    await edge.server.reload();
    await gone;
    expect(await edge.metrics.text()).toContain("cardex_connections 2");
    expect([stays?.destroyed, staysToo?.destroyed]).toEqual([false, false]);
    expect(await knock(foreign)).toBe("refused");
    const goneToo = new Promise((resolve) => staysToo?.once("close", resolve));
    await writeFile(edge.config.tls.clientCaFile, edge.authority.certPem);
    await edge.server.reload();
    await goneToo;
    expect(stays?.destroyed).toBe(false);
  });
});

describe("the server's certificate", () => {
  test("is taken into use when its files change, while calls go on", async () => {
    edge.tokens.getToken = () => Promise.resolve({});
    const gateway = connectGrpc(edge, await edge.issueFor("payment-gateway"));
    await callUnary(gateway, TokenService.method.getToken, {});
    const renewed = await issueCertificate(edge.authority, { name: "server", usage: "server", hosts: ["localhost"], addresses: ["127.0.0.1"] });
    // A key that is not (yet) the certificate's is refused, and the old pair stays.
    await writeFile(edge.config.tls.certFile, renewed.certPem);
    await edge.server.reload();
    expect(edge.alerts).toEqual(["certificates.refused"]);
    const certificate = await edge.issue({});
    await knock(certificate);
    expect(serialOf(sockets[0])).not.toBe(renewed.serial);
    await writeFile(edge.config.tls.keyFile, renewed.keyPem);
    await edge.server.reload();
    expect(edge.alerts).toHaveLength(1);
    await knock(certificate);
    expect(serialOf(sockets[1])).toBe(renewed.serial);
    await callUnary(gateway, TokenService.method.getToken, {});
    gateway.close();
  });

  test("stays, and so do the CAs, when a CA file is no certificate", async () => {
    await writeFile(edge.config.tls.clientCaFile, "no certificate");
    await edge.server.reload();
    // The revocation lists are checked against the same file.
    expect(edge.alerts.toSorted()).toEqual(["certificates.refused", "revocations.refused"]);
    expect(await knock(await edge.issue({}))).toBe("let in");
    await writeFile(edge.config.tls.clientCaFile, edge.authority.certPem);
    await edge.server.reload();
  });
});

function serialOf(socket: TLSSocket | undefined): string | undefined {
  return socket?.getPeerCertificate().serialNumber.toLowerCase();
}
