import type { Duration } from "@bufbuild/protobuf/wkt";

/** A protobuf duration in milliseconds, rounded up, so that a wait is never too short. */
export function duration_ms(duration: Duration): number {
  return Number(duration.seconds) * 1000 + Math.ceil(duration.nanos / 1_000_000);
}
