import { type Config, readConfig } from "../../config.js";
import { fail, type Finding, ok } from "./check.js";

/** The configuration, if it can be used, and what there is to say of it. */
export function checkConfiguration(file: string): { readonly config: Config | undefined; readonly findings: readonly Finding[] } {
  try {
    const config = readConfig(file);
    return { config, findings: [ok("configuration", `${file} is valid; profile ${config.profile}`), ...checkProfile(config)] };
  } catch (error) {
    const found = error instanceof Error ? error.message : "can't be read";
    return { config: undefined, findings: [fail("configuration", found, "correct the file, or name another with --config")] };
  }
}

/** PCI DSS 3.6.1.2: in production keys are kept by a secure cryptographic device. */
function checkProfile(config: Config): Finding[] {
  if (config.profile !== "production" || config.hsm.provider !== "softhsm2") return [];
  return [fail("HSM provider", "softhsm2 keeps keys in files", "name a hardware provider in hsm.provider, or set profile to development")];
}
