import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";

/** Debian's own Python; its packages are not for another one that the PATH may name first. */
export const systemPython = "/usr/bin/python3";

/** protoc's generator for Python, of Debian's protobuf-compiler-grpc. */
export const grpcPythonPlugin = "/usr/bin/grpc_python_plugin";

/** Whether Debian's protoc, its gRPC generator and python3-grpcio are here: tools and a client that have nothing to do with this project. */
export const hasForeignTools =
  existsSync("/usr/bin/protoc") && existsSync(grpcPythonPlugin) && existsSync(systemPython) && spawnSync(systemPython, ["-c", "import grpc"]).status === 0;

/** Whether Go and the two generators of its gRPC are in the PATH. */
export const hasGo = ["go", "protoc-gen-go", "protoc-gen-go-grpc"].every((program) => {
  const { error } = spawnSync(program, ["--version"]);
  return error === undefined;
});

/** Whether Go's modules can be had besides. */
export const hasGoModules = hasGo && spawnSync("go", ["list", "-m", "google.golang.org/grpc@latest"], { cwd: tmpdir() }).status === 0;
