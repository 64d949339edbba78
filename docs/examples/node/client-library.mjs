// Tokenizes a card, gets its number back for a payment, and reads a refusal: with the client library of this package.
import { env } from "node:process";
import { CardexClient, CardexError, Purpose } from "cardex";

const client = await CardexClient.connect({
  address: env.CARDEX_SERVER,
  ca: env.CARDEX_CA,
  cert: env.CARDEX_CERT,
  key: env.CARDEX_KEY,
});
try {
  // The client gives each request a request_id, and repeats what may be repeated.
  const { token, indexCode } = await client.tokens.tokenize({ pan: "4111111111111111", expiry: { year: 2035, month: 12 } });
  console.log("token", token);
  console.log("index code", indexCode);

  const { pan } = await client.tokens.detokenize({ token, purpose: Purpose.PAYMENT });
  console.log("ends with", pan.slice(-4));

  await client.tokens.revokeToken({ token });
  await client.tokens.detokenize({ token, purpose: Purpose.PAYMENT });
} catch (error) {
  if (!(error instanceof CardexError)) throw error;
  console.log("after its revocation", error.codeName, error.reason);
} finally {
  client.close();
}
