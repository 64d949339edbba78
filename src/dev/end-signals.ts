import { clock } from "../clock.js";
import { environment } from "../config.js";

/** npm passes on a Ctrl-C that the terminal has sent here too: what comes within this time is the same one. */
const same_ms = 500;

/** How somebody tells a start to end. */
export interface EndSignals {
  /** Resolves to the exit code when the user asks for the end. */
  readonly asked: Promise<number>;
  /** Resolves when the user asks a second time. */
  readonly forced: Promise<void>;
}

/**
 * Ctrl-C, SIGTERM or a closed terminal ask for the end; a second Ctrl-C forces it. So does the end of npm, where npm runs this: npm
 * killed with kill -9 can't pass anything on.
 */
export function watchForEnd(announce: (line: string) => void): EndSignals {
  let first_ms: number | undefined;
  let ask: (code: number) => void = () => {};
  let force: () => void = () => {};
  const asked = new Promise<number>((resolve) => (ask = resolve));
  const forced = new Promise<void>((resolve) => (force = resolve));
  const heard = (): void => {
    const now_ms = clock.monotonic_ms();
    if (first_ms === undefined) {
      first_ms = now_ms;
      announce("ending; once more to force it");
      ask(0);
    } else if (now_ms - first_ms > same_ms) force();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, heard);
  if (environment.get("npm_lifecycle_event") !== undefined) watchParent(() => ask(0));
  return { asked, forced };
}

function watchParent(gone: () => void): void {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    gone();
  }, 500);
  timer.unref();
}
