import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, createServer, type SecureContextOptions, type TLSSocket } from "node:tls";
import { afterEach, beforeEach, expect, test } from "vitest";
import { clock } from "../clock.js";
import { ensureCertificates, readAuthority } from "./certificate-files.js";
import { issueCertificate, makeAuthority, makeRevocationList, spiffeId } from "./certificates.js";

const clients = ["payment-gateway", "auditor"].map((name) => ({ file: name, tenant: "demo", name }));
const set = { trustDomain: "cardex.dev", clients };
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-certs-"));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** What the handshake of a client with a server that trusts `ca` gives: the client's URI names, or why it was refused. */
async function handshake(ca: string, server: SecureContextOptions, client: SecureContextOptions): Promise<string> {
  const listener = createServer({ ...server, ca, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3" });
  let socket: TLSSocket | undefined;
  try {
    return await new Promise<string>((resolve, reject) => {
      listener.once("error", reject);
      listener.once("tlsClientError", (_error, refused: TLSSocket) => resolve(String(refused.authorizationError)));
      listener.once("secureConnection", (accepted: TLSSocket) => resolve(accepted.getPeerCertificate().subjectaltname ?? ""));
      listener.listen(0, "127.0.0.1", () => {
        const address = listener.address();
        if (address === null || typeof address === "string") return reject(new Error("no address"));
        socket = connect({ ...client, ca, host: "127.0.0.1", port: address.port, minVersion: "TLSv1.3" });
        socket.on("error", () => {});
      });
    });
  } finally {
    socket?.destroy();
    listener.close();
  }
}

test("a client certificate names exactly its SPIFFE ID and is accepted by a server that trusts its CA", async () => {
  const authority = await makeAuthority("test");
  const server = await issueCertificate(authority, { name: "server", usage: "server", hosts: ["localhost"], addresses: ["127.0.0.1", "::1"] });
  const client = await issueCertificate(authority, { name: "gw", usage: "client", uris: [spiffeId("cardex.dev", "demo", "gw")] });
  const result = await handshake(authority.certPem, { cert: server.certPem, key: server.keyPem }, { cert: client.certPem, key: client.keyPem });
  expect(result).toBe("URI:spiffe://cardex.dev/tenant/demo/gw");
});

test("a certificate that has expired, or that another CA issued, is refused by its handshake", async () => {
  const authority = await makeAuthority("test");
  const server = await issueCertificate(authority, { name: "server", usage: "server", hosts: ["localhost"], addresses: ["127.0.0.1"] });
  const context = { cert: server.certPem, key: server.keyPem };
  const now_ms = clock.now_ms();
  const expired = await issueCertificate(authority, {
    name: "late",
    usage: "client",
    notBefore: new Date(now_ms - 7_200_000),
    notAfter: new Date(now_ms - 3_600_000),
  });
  const foreign = await issueCertificate(await makeAuthority("test"), { name: "foreign", usage: "client" });
  expect(await handshake(authority.certPem, context, { cert: expired.certPem, key: expired.keyPem })).toBe("CERT_HAS_EXPIRED");
  expect(await handshake(authority.certPem, context, { cert: foreign.certPem, key: foreign.keyPem })).toMatch(/UNABLE_TO_VERIFY|SIGNATURE/);
});

test("a revocation list names the certificates that it revokes", async () => {
  const authority = await makeAuthority("test");
  const client = await issueCertificate(authority, { name: "gone", usage: "client" });
  const list = await makeRevocationList(authority, [client.serial]);
  expect(list).toContain("-----BEGIN X509 CRL-----");
});

test("certificates are made once, with keys that only their owner can read", async () => {
  expect(await ensureCertificates(folder, set)).toEqual(["ca", "server", "payment-gateway", "auditor"]);
  expect(await ensureCertificates(folder, set)).toEqual([]);
  for (const name of await readdir(folder)) {
    if (name.endsWith(".key")) expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600);
  }
});

test("what is broken, or was issued by a CA that is no more, is made anew, and only that", async () => {
  await ensureCertificates(folder, set);
  await writeFile(join(folder, "auditor.pem"), "half a certifi");
  expect(await ensureCertificates(folder, set)).toEqual(["auditor"]);
  await rm(join(folder, "ca.key"));
  expect(await ensureCertificates(folder, set)).toEqual(["ca", "server", "payment-gateway", "auditor"]);
});

test("a certificate that is about to expire is renewed", async () => {
  await ensureCertificates(folder, set);
  const authority = await readAuthority(folder);
  if (authority === undefined) throw new Error("no CA");
  const soon = await issueCertificate(authority, {
    name: "auditor",
    usage: "client",
    uris: [spiffeId("cardex.dev", "demo", "auditor")],
    notAfter: new Date(clock.now_ms() + 86_400_000),
  });
  await writeFile(join(folder, "auditor.pem"), soon.certPem);
  await writeFile(join(folder, "auditor.key"), soon.keyPem);
  expect(await ensureCertificates(folder, set)).toEqual(["auditor"]);
});
