// Health check of the container: exit code 0 if the server says that it is ready. CARDEX_PROBE_URL names another place.
import { get } from "node:http";

const url = process.env["CARDEX_PROBE_URL"] ?? "http://127.0.0.1:7480/readyz";
const request = get(url, { timeout: 2000 }, (response) => {
  response.resume();
  process.exit(response.statusCode === 200 ? 0 : 1);
});
request.once("error", () => process.exit(1));
request.once("timeout", () => process.exit(1));
