import { HealthImplementation } from "grpc-health-check";

/** The standard health service, `grpc.health.v1.Health`: the server as a whole ("") and each of its services by name. */
export class Health {
  readonly implementation: HealthImplementation;
  readonly #names: readonly string[];

  /** @param serviceNames full names; all of them start as NOT_SERVING */
  constructor(serviceNames: readonly string[]) {
    this.#names = ["", ...serviceNames];
    this.implementation = new HealthImplementation(Object.fromEntries(this.#names.map((name) => [name, "NOT_SERVING"])));
  }

  /** Says of the whole server whether it serves; those who watch are told. */
  set(serving: boolean): void {
    for (const name of this.#names) this.implementation.setStatus(name, serving ? "SERVING" : "NOT_SERVING");
  }
}
