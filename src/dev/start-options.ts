import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Obstacle } from "./obstacle.js";
import type { WantedPorts } from "./state.js";

/** What `npm start --` takes. */
export interface StartOptions {
  /** End after the demonstration. */
  readonly demonstrationOnly: boolean;
  /** The PIN file is right now: a refusal that is recorded is cleared. */
  readonly clearPinRefusal: boolean;
  /** State folder, absolute. */
  readonly state: string;
  readonly ports: WantedPorts;
}

/** The checkout that this compiled file belongs to. */
const checkout = fileURLToPath(new URL("../../../", import.meta.url));

/** @throws Obstacle for what it does not know */
export function readStartOptions(args: readonly string[]): StartOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        demo: { type: "boolean", default: false },
        "clear-pin-refusal": { type: "boolean", default: false },
        state: { type: "string" },
        port: { type: "string" },
        "probe-port": { type: "string" },
      },
    });
    return {
      demonstrationOnly: values.demo,
      clearPinRefusal: values["clear-pin-refusal"],
      state: resolve(values.state ?? join(checkout, ".cardex")),
      ports: { grpc: readPort(values.port, "--port"), probe: readPort(values["probe-port"], "--probe-port") },
    };
  } catch (error) {
    if (error instanceof Obstacle || !(error instanceof Error)) throw error;
    throw new Obstacle(`${error.message.split("\n")[0]}; known are --demo, --port <number>, --probe-port <number>, --state <folder> and --clear-pin-refusal`, { cause: error });
  }
}

function readPort(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new Obstacle(`${option}: must be a whole number from 1 to 65535`);
  return port;
}
