/** The only source of wall time and of monotonic time. Order never depends on wall time (PCI DSS 10.6). */
export const clock = {
  /** Wall time, UTC, milliseconds since the epoch. */
  now_ms(): number {
    return Date.now();
  },
  /** Wall time, UTC. */
  now(): Date {
    return new Date(Date.now());
  },
  /** Monotonic milliseconds since an arbitrary start. */
  monotonic_ms(): number {
    return performance.now();
  },
};
