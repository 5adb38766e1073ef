/** Signatures of webhooks, in the form of Standard Webhooks (https://www.standardwebhooks.com). */

/** A post older or newer than this may be one that somebody sends again. */
const TOLERANCE_S = 300;

export async function verifyWebhook(headers, body, secret) {
  const given = new Map(
    (typeof headers.entries === "function" ? [...headers.entries()] : Object.entries(headers)).map(
      ([name, value]) => [name.toLowerCase(), String(value)],
    ),
  );
  const key = decoded(secret.replace(/^whsec_/, ""));
  if (!key) throw new TypeError("secret is not `whsec_` and base64: give it as Loopai did");
  const sentAt = given.get("webhook-timestamp") ?? "";
  if (!/^\d{1,19}$/.test(sentAt)) return false;
  if (Math.abs(Date.now() / 1000 - Number(sentAt)) > TOLERANCE_S) return false;
  const encoder = new TextEncoder();
  const head = encoder.encode(`${given.get("webhook-id") ?? ""}.${sentAt}.`);
  const bytes = typeof body === "string" ? encoder.encode(body) : new Uint8Array(body);
  const signed = new Uint8Array(head.length + bytes.length);
  signed.set(head);
  signed.set(bytes, head.length);
  const { subtle } = globalThis.crypto ?? (await import("node:crypto")).webcrypto;
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const imported = await subtle.importKey("raw", key, algorithm, false, ["verify"]);
  for (const each of (given.get("webhook-signature") ?? "").split(" ")) {
    const found = each.startsWith("v1,") ? decoded(each.slice("v1,".length)) : null;
    if (found && (await subtle.verify("HMAC", imported, found, signed))) return true;
  }
  return false;
}

/** The bytes of base64; null where it is none. */
function decoded(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}
