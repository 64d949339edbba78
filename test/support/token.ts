import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LoginGuard } from "../../hsm/hsm.js";
import type { HsmObserver, HsmOptions } from "../../hsm/options.js";
import { createSoftHsmToken } from "../../hsm/softhsm.js";
import { Secret } from "../../src/secret.js";

/** A SoftHSM2 token of one's own. */
export interface FreshToken {
  readonly directory: string;
  readonly serial: string;
  /** For openHsm: two lanes. */
  readonly options: HsmOptions;
  /** Removes it. */
  close(): Promise<void>;
}

/** Makes a new token in a temporary folder. */
export async function freshToken(overrides: Partial<HsmOptions> = {}): Promise<FreshToken> {
  const directory = await mkdtemp(join(tmpdir(), "cardex-token-"));
  const pin = new Secret("test-pin-482910");
  const tokenLabel = "cardex test";
  const { softhsmConf, library, serial } = await createSoftHsmToken({ directory, label: tokenLabel, pin, soPin: new Secret("test-so-pin-5501") });
  return {
    directory,
    serial,
    options: { provider: "softhsm2", library, tokenLabel, pin, softhsmConf, lanes: 2, call_ms: 20_000, queue_max: 65_536, ...overrides },
    close: () => rm(directory, { recursive: true, force: true }),
  };
}

/** A guard for tests of the driver alone: lets a login through and counts it. Refusals are kept in memory. */
export class CountingGuard implements LoginGuard {
  attempts = 0;
  refused = false;

  async attempt(_serial: string, login: () => Promise<boolean>): Promise<void> {
    this.attempts += 1;
    this.refused = !(await login());
  }
}

/** Observes nothing. */
export const silentObserver: HsmObserver = { hung: () => undefined, stateChanged: () => undefined };
