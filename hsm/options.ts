import { type Config, ConfigError } from "../src/config.js";
import type { Secret } from "../src/secret.js";
import type { HsmHealth } from "./hsm.js";
import { profileOf } from "./profiles.js";

/** How to reach the token. */
export interface HsmOptions {
  /** Name of the provider profile. */
  readonly provider: string;
  /** Path of the PKCS#11 library. */
  readonly library: string;
  readonly tokenLabel: string;
  readonly pin: Secret;
  /** SOFTHSM2_CONF for the library. */
  readonly softhsmConf: string | undefined;
  /** Worker threads, 1 to 64. */
  readonly lanes: number;
  /** Time of one group of operations, milliseconds; then the process counts as hung. */
  readonly call_ms: number;
  /** Operations waiting, at most. */
  readonly queue_max: number;
}

/**
 * The options that a configuration says; `pin` is what `readPin` gave.
 * @throws ConfigError for an unknown provider, and for a software token in production (PCI DSS 3.6.1.2)
 */
export function hsmOptions(config: Pick<Config, "profile" | "hsm" | "limits">, pin: Secret): HsmOptions {
  const { name, production } = profileOf(config.hsm.provider);
  if (config.profile === "production" && !production) {
    throw new ConfigError(
      `hsm.provider: ${name} is not a secure cryptographic device, and the production profile refuses it: name a hardware provider, or set profile to development`,
    );
  }
  const { provider, library, tokenLabel, softhsmConf, lanes, call_ms } = config.hsm;
  return { provider, library, tokenLabel, pin, softhsmConf, lanes, call_ms, queue_max: config.limits.hsmQueue };
}

/** What the driver tells. No method may throw. */
export interface HsmObserver {
  /** A native call does not return. It blocks the end of its thread, so only SIGKILL ends the process. */
  hung(): void;
  /** The state changed, or what keeps the HSM from recovering did; `cause` is the error that made it. */
  stateChanged(state: HsmHealth["state"], cause: unknown): void;
  /** A group of operations came back. */
  grouped?(operations: number, duration_ms: number): void;
}
