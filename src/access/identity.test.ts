import { X509Certificate } from "node:crypto";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { issueCertificate, type KeyedCertificate, makeAuthority } from "../dev/certificates.js";
import { canonicalSerial, identityFault, readIdentity, readPrincipal } from "./identity.js";

const trustDomain = "cardex.test";
const gateway = "spiffe://cardex.test/tenant/acme/gateway";
const nobodyRevoked = { isRevoked: () => false };
let authority: KeyedCertificate;

beforeAll(async () => {
  authority = await makeAuthority("identity test CA");
});

async function certificateWith(uris: readonly string[]): Promise<X509Certificate> {
  const { certPem } = await issueCertificate(authority, { name: "someone", usage: "client", uris, hosts: ["someone.example"] });
  return new X509Certificate(certPem);
}

describe("the identity of a certificate", () => {
  test("is the tenant and name of its one SPIFFE URI", async () => {
    const identity = readIdentity(await certificateWith([gateway]), trustDomain);
    expect(identity).toMatchObject({ principal: { id: gateway, tenant: "acme" } });
  });

  test.each([
    ["no URI", [], "NO_URI"],
    ["two URIs", [gateway, "spiffe://cardex.test/tenant/other/gateway"], "SEVERAL_URIS"],
    ["the same URI twice", [gateway, gateway], "SEVERAL_URIS"],
    ["another scheme", ["https://cardex.test/tenant/acme/gateway"], "NOT_A_SPIFFE_ID"],
    ["another trust domain", ["spiffe://other.test/tenant/acme/gateway"], "OTHER_TRUST_DOMAIN"],
    ["no tenant", ["spiffe://cardex.test/service/gateway"], "NO_TENANT"],
  ])("is refused with %s", async (_name, uris, refused) => {
    expect(readIdentity(await certificateWith(uris), trustDomain)).toEqual({ refused });
  });

  test("ends with its certificate's validity and with its revocation", async () => {
    const identity = readIdentity(await certificateWith([gateway]), trustDomain);
    if ("refused" in identity) throw new Error(identity.refused);
    expect(identityFault(identity, identity.notBefore_ms - 1, nobodyRevoked)).toBe("CERT_NOT_YET_VALID");
    expect(identityFault(identity, identity.notBefore_ms, nobodyRevoked)).toBeUndefined();
    expect(identityFault(identity, identity.notAfter_ms, nobodyRevoked)).toBeUndefined();
    expect(identityFault(identity, identity.notAfter_ms + 1, nobodyRevoked)).toBe("CERT_HAS_EXPIRED");
    expect(identityFault(identity, identity.notBefore_ms, { isRevoked: (_issuer, serial) => serial === identity.serial })).toBe("CERT_REVOKED");
  });
});

describe("a SPIFFE ID", () => {
  test.each([
    `spiffe://cardex.test/tenant/acme/`,
    "spiffe://cardex.test/tenant/acme//x",
    "spiffe://cardex.test/tenant/acme/../other",
    "spiffe://cardex.test/tenant/acme/gate%2Fway",
    "spiffe://cardex.test/tenant/acme/gateway?x=1",
    "spiffe://cardex.test:443/tenant/acme/gateway",
    "spiffe://CARDEX.test/tenant/acme/gateway",
    "spiffe://cardex.test/tenant/acme/gate\nway",
    `spiffe://cardex.test/tenant/acme/${"x".repeat(500)}`,
  ])("is refused where it is malformed: %j", (id) => {
    expect(readPrincipal(id, trustDomain)).toEqual({ refused: "NOT_A_SPIFFE_ID" });
  });

  test.each(["-acme", "Acme", "a_b", "x".repeat(33)])("is refused with %j as its tenant", (tenant) => {
    expect(readPrincipal(`spiffe://cardex.test/tenant/${tenant}/gateway`, trustDomain)).toEqual({ refused: "NO_TENANT" });
  });

  test("never gives a principal of a tenant that it does not name", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const read = readPrincipal(`spiffe://cardex.test/tenant/${text}`, trustDomain);
        expect("refused" in read || text.startsWith(`${read.tenant}/`)).toBe(true);
      }),
    );
  });
});

test("a serial number reads the same with and without leading zeros", () => {
  expect(canonicalSerial("00AB01")).toBe(canonicalSerial("ab01"));
  expect(canonicalSerial("00")).toBe("0");
});
