import pg from "pg";
import { pino, type Logger } from "pino";

export type { Logger };

/**
 * Structured JSON lines on stderr. No PAN, token, index code, PIN or request body is ever handed to it: values of the types Pan and
 * Secret print masked, and messages are logged only through `rpc/redact.ts`, which follows `debug_redact`.
 */
export function openLog(level: string): Logger {
  return pino(
    {
      level,
      base: { service: "cardex", pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: describeError },
    },
    pino.destination({ dest: 2, sync: true }),
  );
}

/**
 * An error for the log: class, message, code, stack and causes; nothing else that a driver may have hung on it (row values, queries).
 * PostgreSQL's own messages quote what was sent ("invalid input syntax for type uuid: ..."): of them, only what names the fault.
 */
export function describeError(error: unknown, depth = 0): object {
  if (!(error instanceof Error)) return { message: "not an Error", type: typeof error };
  const { code } = error as NodeJS.ErrnoException;
  return {
    ...(error instanceof pg.DatabaseError ? describeFault(error) : { type: error.name, message: error.message, stack: error.stack }),
    ...(typeof code === "string" || typeof code === "number" ? { code } : {}),
    ...(error.cause !== undefined && depth < 4 ? { cause: describeError(error.cause, depth + 1) } : {}),
  };
}

/** What PostgreSQL's error names, and where it was thrown; nothing of its message, which the stack begins with. */
function describeFault(error: pg.DatabaseError): object {
  const { severity, routine, schema, table, column, constraint, message, stack = "" } = error;
  const at = stack.indexOf(message);
  return { type: "DatabaseError", severity, routine, schema, table, column, constraint, stack: at === -1 ? "" : stack.slice(at + message.length) };
}
