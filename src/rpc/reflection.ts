import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { ReflectionService } from "@grpc/reflection";

/** Server reflection over these services, so that grpcurl and its like need no .proto files. */
export function reflectionOf(services: readonly DescService[]): ReflectionService {
  const files = new Map<string, DescFile>();
  for (const service of services) collect(service.file, files);
  const fileDescriptorProtos = Array.from(files.values(), (file) => Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)));
  // What @grpc/reflection reads of a package definition is the file descriptors alone.
  const definition = { format: "Protocol Buffer 3 DescriptorProto" as const, type: {}, fileDescriptorProtos };
  return new ReflectionService({ files: definition }, { services: services.map((service) => service.typeName) });
}

function collect(file: DescFile, into: Map<string, DescFile>): void {
  if (into.has(file.name)) return;
  into.set(file.name, file);
  for (const dependency of file.dependencies) collect(dependency, into);
}
