import { request } from 'node:https';
import type { z } from 'zod';
import { CulvertError, describeError } from '../../../shared/errors.js';
import { isAboutDates, missedDates } from '../../../shared/certificate-dates.js';
import { isTlsFailure, namesOfOther } from '../../../shared/tls-failure.js';
import { decodeWire, encodeWire, maxWireBytes, wireErrorSchema } from '../../../shared/wire/requests.js';
import { timeoutSignal } from '../../../shared/timeout-signal.js';

const requestTimeoutMs = 10_000;

/**
 * How the server is authenticated: by a root certificate, or not at all (`unverified`). Only the request for the CA may
 * use `unverified`, because its answer is checked against the hash in the token.
 */
export type ServerTrust = { readonly rootPem: string } | 'unverified';

/**
 * Sends one request to the controller's HTTPS endpoint. Throws CulvertError: with the controller's code if it answered
 * with an error, else with `CONTROLLER_UNREACHABLE` or `CONTROLLER_UNTRUSTED`.
 */
export async function callController<Schema extends z.ZodType>(o: {
  readonly url: URL;
  readonly trust: ServerTrust;
  readonly body?: unknown;
  readonly schema: Schema;
  readonly signal: AbortSignal;
}): Promise<z.infer<Schema>> {
  const { status, bytes } = await exchange(o);
  if (status >= 200 && status < 300) return decodeWire(o.schema, bytes);
  throw refusal(o.url, status, bytes);
}

/** Throws CulvertError `CONTROLLER_URL`. */
export function parseControllerUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'https:') {
    throw new CulvertError({
      code: 'CONTROLLER_URL',
      message: `"${text}" is not the address of a controller`,
      hint: `give an https address, such as https://${url?.hostname || '198.18.0.2'}:15443`,
    });
  }
  return url;
}

function exchange(o: {
  readonly url: URL;
  readonly trust: ServerTrust;
  readonly body?: unknown;
  readonly signal: AbortSignal;
}): Promise<{ status: number; bytes: Uint8Array }> {
  const payload = o.body === undefined ? undefined : encodeWire(o.body);
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown): void => void unreachable(o, cause).then(reject, reject);
    const outgoing = request(
      o.url,
      {
        method: payload === undefined ? 'GET' : 'POST',
        headers: payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': payload.length },
        agent: false,
        minVersion: 'TLSv1.2',
        signal: AbortSignal.any([o.signal, timeoutSignal(requestTimeoutMs)]),
        ...(o.trust === 'unverified' ? { rejectUnauthorized: false } : { ca: o.trust.rootPem }),
      },
      (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('error', fail);
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > maxWireBytes) outgoing.destroy(new Error(`the answer is larger than ${maxWireBytes} bytes`));
          else chunks.push(chunk);
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, bytes: Buffer.concat(chunks) }));
      },
    );
    outgoing.on('error', fail);
    outgoing.end(payload);
  });
}

function refusal(url: URL, status: number, bytes: Uint8Array): CulvertError {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    parsed = undefined;
  }
  const error = wireErrorSchema.safeParse(parsed);
  if (error.success) {
    const { code, message, hint } = error.data;
    return new CulvertError(hint === null ? { code, message } : { code, message, hint });
  }
  return new CulvertError({
    code: 'CONTROLLER_REFUSED',
    message: `the controller at ${url.origin} answered ${status} to ${url.pathname}`,
    hint: 'check that the address belongs to a Culvert controller',
  });
}

async function unreachable(
  { url, trust }: { readonly url: URL; readonly trust: ServerTrust },
  cause: unknown,
): Promise<CulvertError> {
  if (isAboutDates(cause) && trust !== 'unverified') {
    const { text } = await missedDates(url, trust.rootPem);
    return new CulvertError({
      code: 'CONTROLLER_UNTRUSTED',
      message: `the certificate of the controller at ${url.origin} is not trusted: ${text}`,
      hint: 'set the time of this host or of the controller, whichever is wrong (date -u); if both are right, see the log of the controller, which renews its certificate by itself',
      cause,
    });
  }
  const names = namesOfOther(cause);
  if (names !== null) {
    return new CulvertError({
      code: 'CONTROLLER_UNTRUSTED',
      message: `the certificate of the controller at ${url.origin} is for other names: ${names.join(', ')}`,
      hint: `use one of these, or add ${url.hostname} to the setting "advertise" of the controller`,
      cause,
    });
  }
  return isTlsFailure(cause)
    ? new CulvertError({
        code: 'CONTROLLER_UNTRUSTED',
        message: `the controller at ${url.origin} could not prove its identity: ${describeError(cause)}`,
        hint: 'use an address that its certificate names (setting "advertise" of the controller), and a token of this controller',
        cause,
      })
    : new CulvertError({
        code: 'CONTROLLER_UNREACHABLE',
        message: `cannot reach the controller at ${url.origin}: ${describeError(cause)}`,
        hint: 'check the address, and that the controller is running',
        cause,
      });
}
