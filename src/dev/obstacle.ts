/**
 * Something that stands in the way of a development installation and that the user can mend: `message` is one line that says
 * what it is and what to do. Shown without a stack trace.
 */
export class Obstacle extends Error {
  override readonly name = "Obstacle";
}

/** SQLSTATE disk_full. */
const postgresDiskFull = "53100";

/** The same error as an Obstacle, where its cause is a full disk or a missing permission; the error itself otherwise. */
export function asObstacle(error: unknown, doing: string): unknown {
  if (!(error instanceof Error)) return error;
  const { code, path } = error as NodeJS.ErrnoException;
  const where = path === undefined ? "" : ` (${path})`;
  if (code === "ENOSPC" || code === "EDQUOT" || code === postgresDiskFull || /No space left on device|Disk quota exceeded/.test(error.message)) {
    return new Obstacle(`the disk is full while ${doing}${where}: free some space, then start again; nothing is lost`, { cause: error });
  }
  if (error instanceof Obstacle) return error;
  if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
    return new Obstacle(`not allowed to write while ${doing}${where}: run as the user who owns the folder, or give that user the right`, {
      cause: error,
    });
  }
  return error;
}
