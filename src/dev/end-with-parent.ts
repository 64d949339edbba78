// Preloaded (node --import) into a server that a development start or a test made: when that process is gone, however it went, the
// server stops too, in order if it can.
if (process.channel !== undefined) {
  process.channel?.unref();
  process.once("disconnect", () => {
    process.kill(process.pid, "SIGTERM");
    setTimeout(() => process.kill(process.pid, "SIGKILL"), 5000).unref();
  });
}
