import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { clock } from "../clock.js";

const keyAlgorithm = { name: "ECDSA", namedCurve: "P-256" } as const;
const signingAlgorithm = { name: "ECDSA", hash: "SHA-256" } as const;
const day_ms = 86_400_000;

/** How long development certificates last: CAs, and certificates that they issue. */
export const lifetime_days = { authority: 3650, certificate: 365 } as const;

/** A certificate and its private key (PKCS #8), both PEM. */
export interface KeyedCertificate {
  readonly certPem: string;
  readonly keyPem: string;
  /** Serial number, lower-case hex. */
  readonly serial: string;
}

/** From when until when a certificate is valid. Defaults: from five minutes ago, for `lifetime_days`. */
export interface Validity {
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}

export interface CertificateRequest extends Validity {
  /** Common name; for people only. */
  readonly name: string;
  readonly usage: "server" | "client";
  /** URI subject alternative names. A client that Cardex lets in has exactly one, its SPIFFE ID. */
  readonly uris?: readonly string[];
  readonly hosts?: readonly string[];
  readonly addresses?: readonly string[];
}

/** SPIFFE ID of someone in a tenant (SPIFFE-ID 2). */
export function spiffeId(trustDomain: string, tenant: string, name: string): string {
  return `spiffe://${trustDomain}/tenant/${tenant}/${name}`;
}

/** Makes a self-signed CA with an EC P-256 key. */
export async function makeAuthority(name: string, validity: Validity = {}): Promise<KeyedCertificate> {
  const keys = await makeKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [name] }],
    keys,
    signingAlgorithm,
    ...dates(validity, lifetime_days.authority),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return await keyed(certificate, keys);
}

/** Issues a certificate with a new EC P-256 key. */
export async function issueCertificate(authority: KeyedCertificate, request: CertificateRequest): Promise<KeyedCertificate> {
  const issuer = new x509.X509Certificate(authority.certPem);
  const keys = await makeKeys();
  const names: x509.JsonGeneralNames = [
    ...(request.uris ?? []).map((value) => ({ type: "url" as const, value })),
    ...(request.hosts ?? []).map((value) => ({ type: "dns" as const, value })),
    ...(request.addresses ?? []).map((value) => ({ type: "ip" as const, value })),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    subject: [{ CN: [request.name] }],
    issuer: issuer.subject,
    publicKey: keys.publicKey,
    signingKey: await privateKey(authority),
    signingAlgorithm,
    ...dates(request, lifetime_days.certificate),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([request.usage === "server" ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
    ],
  });
  return await keyed(certificate, keys);
}

/** A revocation list (RFC 5280 5) of these serial numbers, PEM, good for 30 days unless told otherwise. */
export async function makeRevocationList(authority: KeyedCertificate, serials: readonly string[], nextUpdate?: Date): Promise<string> {
  const now = clock.now();
  const list = await x509.X509CrlGenerator.create({
    issuer: new x509.X509Certificate(authority.certPem).subject,
    thisUpdate: now,
    nextUpdate: nextUpdate ?? new Date(now.getTime() + 30 * day_ms),
    signingKey: await privateKey(authority),
    signingAlgorithm,
    entries: serials.map((serialNumber) => ({ serialNumber, revocationDate: now })),
  });
  // RFC 7468 7 names the label; the library's own is another.
  return `${x509.PemConverter.encode(list.rawData, "X509 CRL")}\n`;
}

async function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]);
}

async function privateKey(authority: KeyedCertificate): Promise<webcrypto.CryptoKey> {
  return await webcrypto.subtle.importKey("pkcs8", x509.PemConverter.decodeFirst(authority.keyPem), keyAlgorithm, false, ["sign"]);
}

async function keyed(certificate: x509.X509Certificate, keys: webcrypto.CryptoKeyPair): Promise<KeyedCertificate> {
  const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    certPem: `${certificate.toString("pem")}\n`,
    keyPem: `${x509.PemConverter.encode(pkcs8, "PRIVATE KEY")}\n`,
    serial: certificate.serialNumber,
  };
}

function dates(validity: Validity, days: number): { notBefore: Date; notAfter: Date } {
  const now_ms = clock.now_ms();
  // X.509 times have whole seconds; five minutes allow for clocks that differ.
  return {
    notBefore: validity.notBefore ?? new Date(now_ms - 300_000),
    notAfter: validity.notAfter ?? new Date(now_ms + days * day_ms),
  };
}
