import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { clock } from "../clock.js";
import { issueCertificate, type KeyedCertificate, makeAuthority, spiffeId, type CertificateRequest } from "./certificates.js";
import { readIfThere, writeWhole } from "./files.js";

/** A certificate with less time left than this is made anew, days. */
export const renewal_days = 30;

/** One client. */
export interface ClientIdentity {
  /** Name of its files, without .pem and .key. */
  readonly file: string;
  readonly tenant: string;
  /** The last part of its SPIFFE ID. */
  readonly name: string;
}

/** Which certificates a development set-up has. */
export interface CertificateSet {
  readonly trustDomain: string;
  readonly clients: readonly ClientIdentity[];
}

/** What was made or renewed, by file name; empty if all was there and good. */
export type Renewed = readonly string[];

/**
 * Makes the development CA, the server's certificate and one for each client in a folder, and renews what is missing,
 * broken, issued by another CA, or about to expire. Private keys have mode 0600. Files: ca.pem, ca.key, server.pem,
 * server.key, and a pair for each client.
 */
export async function ensureCertificates(folder: string, set: CertificateSet): Promise<Renewed> {
  await mkdir(folder, { recursive: true, mode: 0o755 });
  const renewed: string[] = [];
  let authority = await readPair(folder, "ca");
  if (authority === undefined || !isGood(authority, authority, [])) {
    authority = await makeAuthority("Cardex development CA");
    await writePair(folder, "ca", authority);
    renewed.push("ca");
  }
  for (const [file, request] of requests(set)) {
    const present = await readPair(folder, file);
    if (present !== undefined && isGood(present, authority, wantedNames(request))) continue;
    await writePair(folder, file, await issueCertificate(authority, request));
    renewed.push(file);
  }
  return renewed;
}

/** The development CA of a folder, to issue further certificates with; undefined if there is none. */
export async function readAuthority(folder: string): Promise<KeyedCertificate | undefined> {
  return await readPair(folder, "ca");
}

function requests(set: CertificateSet): [file: string, request: CertificateRequest][] {
  return [
    ["server", { name: "Cardex development server", usage: "server", hosts: ["localhost"], addresses: ["127.0.0.1", "::1"] }],
    ...set.clients.map(({ file, tenant, name }): [string, CertificateRequest] => [
      file,
      { name: `${name} of ${tenant}`, usage: "client", uris: [spiffeId(set.trustDomain, tenant, name)] },
    ]),
  ];
}

/** Names as node:crypto prints them. */
function wantedNames(request: CertificateRequest): string[] {
  return [...(request.uris ?? []).map((uri) => `URI:${uri}`), ...(request.hosts ?? []).map((host) => `DNS:${host}`)];
}

function isGood(pair: KeyedCertificate, authority: KeyedCertificate, names: readonly string[]): boolean {
  try {
    const certificate = new X509Certificate(pair.certPem);
    const issuer = new X509Certificate(authority.certPem);
    const left_ms = Date.parse(certificate.validTo) - clock.now_ms();
    const present = (certificate.subjectAltName ?? "").split(", ");
    return (
      left_ms > renewal_days * 86_400_000 &&
      certificate.verify(issuer.publicKey) &&
      certificate.checkPrivateKey(createPrivateKey(pair.keyPem)) &&
      names.every((name) => present.includes(name))
    );
  } catch {
    // What can't be parsed is not good.
    return false;
  }
}

async function readPair(folder: string, name: string): Promise<KeyedCertificate | undefined> {
  const [certPem, keyPem] = await Promise.all([readIfThere(join(folder, `${name}.pem`)), readIfThere(join(folder, `${name}.key`))]);
  if (certPem === undefined || keyPem === undefined) return undefined;
  try {
    return { certPem, keyPem, serial: new X509Certificate(certPem).serialNumber.toLowerCase() };
  } catch {
    return undefined;
  }
}

async function writePair(folder: string, name: string, pair: KeyedCertificate): Promise<void> {
  await writeWhole(join(folder, `${name}.key`), pair.keyPem, 0o600);
  await writeWhole(join(folder, `${name}.pem`), pair.certPem, 0o644);
}
