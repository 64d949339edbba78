import { X509Certificate } from "node:crypto";

/** Certificates of a chain, at most; a chain that is longer, or goes round in a circle, leads nowhere. */
const chainLength_max = 8;

/** The certificates of a PEM file, in its order. @throws Error if one of them can't be read */
export function readCertificates(pem: string): X509Certificate[] {
  return (pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? []).map((each) => new X509Certificate(each));
}

/** A certificate and those that came with it, each signed by the next. Node tells them once: who asks a socket again gets no issuers. */
export function chainOf(certificate: X509Certificate): X509Certificate[] {
  const chain = [certificate];
  for (let last = certificate; chain.length < chainLength_max; ) {
    const issuer: X509Certificate | undefined = last.issuerCertificate;
    if (issuer === undefined || !isSignedBy(last, issuer)) break;
    chain.push(issuer);
    last = issuer;
  }
  return chain;
}

/**
 * Whether a chain leads to one of these CAs (RFC 5280 6.1): one of its certificates is among them, or signed by one of them. What else
 * makes a chain valid, TLS has checked in the handshake.
 */
export function leadsTo(cas: readonly X509Certificate[], chain: readonly X509Certificate[]): boolean {
  return chain.some((link) => cas.some((ca) => ca.fingerprint256 === link.fingerprint256 || isSignedBy(link, ca)));
}

function isSignedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
