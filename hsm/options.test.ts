import { describe, expect, it } from "vitest";
import { ConfigError, parseConfig } from "../src/config.js";
import { Secret } from "../src/secret.js";
import { hsmOptions } from "./options.js";

const config = (profile: string, provider: string) =>
  parseConfig(
    {
      profile,
      tls: { certFile: "c", keyFile: "k", clientCaFile: "a", trustDomain: "example.org" },
      database: { url: "postgres://localhost/cardex" },
      hsm: { provider, library: "/lib/softhsm.so", tokenLabel: "cardex" },
    },
    "of a test",
  );

describe("the options of the HSM", () => {
  it("come from the configuration", () => {
    const options = hsmOptions(config("development", "softhsm2"), new Secret("1234"));
    expect(options).toMatchObject({ provider: "softhsm2", tokenLabel: "cardex", lanes: 2, call_ms: 5000, queue_max: 65_536 });
  });

  it("hold PCI DSS 3.6.1.2: the production profile refuses SoftHSM", () => {
    expect(() => hsmOptions(config("production", "softhsm2"), new Secret("1234"))).toThrow("not a secure cryptographic device");
  });

  it("name the providers that there are, where the configuration names another", () => {
    const options = (): unknown => hsmOptions(config("development", "abacus"), new Secret("1234"));
    expect(options).toThrow(ConfigError);
    expect(options).toThrow('hsm.provider: no profile "abacus"; there is softhsm2');
  });
});
