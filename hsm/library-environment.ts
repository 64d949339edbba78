/**
 * SoftHSM2 takes the path of its configuration from the environment of the process alone, by getenv(3). The environment of a worker thread is
 * a copy that getenv does not see, so it is set in the main thread, before a worker loads the library. The one use of the
 * environment in this folder.
 */
export function setLibraryEnvironment(softhsmConf: string | undefined): void {
  if (softhsmConf !== undefined) process.env["SOFTHSM2_CONF"] = softhsmConf;
}
