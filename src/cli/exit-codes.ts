/** What the exit code of `cardex` says. Part of its interface: scripts depend on it. */
export const exitCodes = {
  /** Done. */
  ok: 0,
  /** Failed for a reason that has no code of its own. */
  failed: 1,
  /** The command line, the configuration or the input is not valid. */
  usage: 2,
  /** No such token, index code or card for this caller. */
  notFound: 3,
  /** The policy says no, or the certificate names nobody known. */
  denied: 4,
  /** Server, HSM or database away, or a limit reached; the same command may succeed later. */
  unavailable: 5,
  /** A chain, a comparison or stored data does not verify. */
  unverified: 6,
  /** Done, but some rows or items were rejected. */
  someRejected: 7,
  /** Ended by Ctrl-C or a termination signal. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** For the end of `cardex --help`. */
export const exitCodesHelp = `
Exit codes:
    0  done
    1  failed
    2  the command line, the configuration or the input is not valid
    3  no such token, index code or card for this caller
    4  denied by policy, or an unknown certificate
    5  server, HSM or database away, or a limit reached; try again later
    6  a chain, a comparison or stored data does not verify
    7  done, but some rows or items were rejected
  130  interrupted
`;
