import "reflect-metadata";
import type { X509Certificate } from "node:crypto";
import { SubjectAlternativeNameExtension, X509Certificate as ParsedCertificate } from "@peculiar/x509";
import type { Principal } from "../call.js";

/** Length of a SPIFFE ID that policy and audit take, in bytes. */
const spiffeIdLength_max = 512;

/** The tenant part of a SPIFFE ID, and a tenant's name everywhere. "system" is the installation itself. */
export const tenantPattern = /^[a-z0-9][a-z0-9-]{0,31}$/;

/** Who stands behind a connection, read once from its certificate. */
export interface Identity {
  readonly principal: Principal;
  /** Validity of the certificate, milliseconds since the epoch. */
  readonly notBefore_ms: number;
  readonly notAfter_ms: number;
  /** Names the certificate among those of its CA, for revocation lists. */
  readonly issuer: string;
  readonly serial: string;
}

/** Why a certificate, or an ID, names nobody. */
export interface NoIdentity {
  /** A stable word for the audit log. */
  readonly refused: "CERTIFICATE_UNREADABLE" | "NO_URI" | "SEVERAL_URIS" | "NOT_A_SPIFFE_ID" | "OTHER_TRUST_DOMAIN" | "NO_TENANT";
}

/**
 * Reads a principal from a client certificate that TLS has verified: exactly one URI among its subject alternative names
 * (X.509-SVID 2), `spiffe://<trustDomain>/tenant/<tenant>/<name...>`.
 */
export function readIdentity(certificate: X509Certificate, trustDomain: string): Identity | NoIdentity {
  let parsed: ParsedCertificate;
  let uris: string[];
  try {
    parsed = new ParsedCertificate(new Uint8Array(certificate.raw));
    uris = parsed
      .getExtensions(SubjectAlternativeNameExtension)
      .flatMap((extension) => extension.names.items)
      .filter((name) => name.type === "url")
      .map((name) => name.value);
  } catch {
    // What OpenSSL took and this parser does not names nobody; the reason below is what is audited.
    return { refused: "CERTIFICATE_UNREADABLE" };
  }
  const [uri] = uris;
  if (uri === undefined) return { refused: "NO_URI" };
  if (uris.length > 1) return { refused: "SEVERAL_URIS" };
  const principal = readPrincipal(uri, trustDomain);
  if ("refused" in principal) return principal;
  return {
    principal,
    notBefore_ms: parsed.notBefore.getTime(),
    notAfter_ms: parsed.notAfter.getTime(),
    issuer: parsed.issuer,
    serial: canonicalSerial(parsed.serialNumber),
  };
}

/** Reads a SPIFFE ID (SPIFFE-ID 2): lower-case trust domain, path segments of letters, digits, '.', '_' and '-'. */
export function readPrincipal(id: string, trustDomain: string): Principal | NoIdentity {
  const match = /^spiffe:\/\/([a-z0-9._-]{1,255})\/(.+)$/.exec(id);
  const segments = match?.[2]?.split("/") ?? [];
  const wellFormed = segments.every((segment) => /^[a-zA-Z0-9._-]+$/.test(segment) && segment !== "." && segment !== "..");
  if (match === null || !wellFormed || Buffer.byteLength(id) > spiffeIdLength_max) return { refused: "NOT_A_SPIFFE_ID" };
  if (match[1] !== trustDomain) return { refused: "OTHER_TRUST_DOMAIN" };
  const [word, tenant, name] = segments;
  if (word !== "tenant" || tenant === undefined || !tenantPattern.test(tenant) || name === undefined) return { refused: "NO_TENANT" };
  return { id, tenant };
}

/** A serial number as lower-case hex without leading zeros, so that two encoders agree. */
export function canonicalSerial(hex: string): string {
  return hex.toLowerCase().replace(/^0+(?=.)/, "");
}

/** What is wrong with a certificate at this moment, or undefined. */
export function identityFault(
  identity: Identity,
  now_ms: number,
  revocations: { isRevoked(issuer: string, serial: string): boolean },
): "CERT_NOT_YET_VALID" | "CERT_HAS_EXPIRED" | "CERT_REVOKED" | undefined {
  if (now_ms < identity.notBefore_ms) return "CERT_NOT_YET_VALID";
  if (now_ms > identity.notAfter_ms) return "CERT_HAS_EXPIRED";
  if (revocations.isRevoked(identity.issuer, identity.serial)) return "CERT_REVOKED";
  return undefined;
}
