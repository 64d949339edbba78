/** What a check found. */
export interface Finding {
  readonly result: "ok" | "warn" | "fail";
  /** What was looked at. */
  readonly what: string;
  /** What was found. */
  readonly found: string;
  /** What to do, unless it is ok. */
  readonly mend?: string;
}

export function ok(what: string, found: string): Finding {
  return { result: "ok", what, found };
}

export function warn(what: string, found: string, mend: string): Finding {
  return { result: "warn", what, found, mend };
}

export function fail(what: string, found: string, mend: string): Finding {
  return { result: "fail", what, found, mend };
}

/** The findings of a check; one that failed itself is a finding too. */
export async function findingsOf(what: string, mend: string, check: () => Promise<readonly Finding[]>): Promise<readonly Finding[]> {
  try {
    return await check();
  } catch (error) {
    return [fail(what, error instanceof Error ? error.message : "an unknown error", mend)];
  }
}
