import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import { splitCertificates } from './pki/pem.js';

const lookTimeoutMs = 5000;
/** More than a chain has. */
const maxChain = 10;

/** Whether an error of Node's TLS says that a certificate is not valid at this time. */
export function isAboutDates(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID';
}

/** Of a server that was refused because a certificate is not valid at this time. */
export type MissedDates = {
  /** The dates and the time of this machine, for people: to follow "the certificate of SERVER is not trusted: ". */
  readonly text: string;
  /** One of the roots that are trusted here has expired. */
  readonly hasRootExpired: boolean;
};

/**
 * Compares the certificates of a server, and the roots that are trusted for it, with the time of this machine. Asks the server
 * for them again, without trust, and sends it nothing. Never rejects.
 */
export async function missedDates(url: URL, rootsPem: string): Promise<MissedDates> {
  const nowMs = Date.now();
  const roots = splitCertificates(rootsPem).flatMap((pem) => datesOf(() => new X509Certificate(pem)));
  const root = roots.find((dates) => isMissed(dates, nowMs));
  const missed = root ?? (await shownDates(url)).find((dates) => isMissed(dates, nowMs));
  const clock = `the time of this machine is ${timeText(nowMs)}`;
  if (missed === undefined) return { text: clock, hasRootExpired: false };
  const what = missed.isCa ? 'its CA' : 'it';
  return {
    text: `${what} is valid from ${timeText(missed.fromMs)} to ${timeText(missed.toMs)}, and ${clock}`,
    hasRootExpired: root !== undefined && root.toMs < nowMs,
  };
}

type Dates = { readonly fromMs: number; readonly toMs: number; readonly isCa: boolean };

function isMissed({ fromMs, toMs }: Dates, nowMs: number): boolean {
  return nowMs < fromMs || nowMs > toMs;
}

function datesOf(read: () => X509Certificate): Dates[] {
  try {
    const { validFrom, validTo, ca } = read();
    return [{ fromMs: Date.parse(validFrom), toMs: Date.parse(validTo), isCa: ca }];
  } catch {
    return [];
  }
}

/** Of each certificate of a server, its own first; empty when it shows none. */
function shownDates({ hostname, port }: URL): Promise<Dates[]> {
  const host = hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve) => {
    const socket = connect({
      host,
      port: Number(port === '' ? 443 : port),
      ...(isIP(host) === 0 ? { servername: host } : {}),
      // Only looks: nothing is sent, and the dates are for people.
      rejectUnauthorized: false,
    });
    const end = (dates: Dates[]): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(dates);
    };
    const timer = setTimeout(() => end([]), lookTimeoutMs);
    socket.once('error', () => end([]));
    socket.once('secureConnect', () => end(chainOf(socket.getPeerCertificate(true))));
  });
}

function chainOf(leaf: DetailedPeerCertificate): Dates[] {
  const chain: Dates[] = [];
  let one: DetailedPeerCertificate | undefined = leaf;
  while (one?.raw !== undefined && chain.length < maxChain) {
    const { raw, issuerCertificate }: DetailedPeerCertificate = one;
    chain.push(...datesOf(() => new X509Certificate(raw)));
    one = issuerCertificate === one ? undefined : issuerCertificate;
  }
  return chain;
}

function timeText(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z');
}
