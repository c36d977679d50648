import { isIP } from 'node:net';
import { CulvertError } from '../errors.js';

export type ListenAddress = { readonly host: string; readonly port: number };

/**
 * Parses `127.0.0.1:15000`, `[::]:15443` (also accepts IPv4) or `localhost:0` (port 0: the kernel chooses one).
 * `setting` is the name for the error message. Throws CulvertError `CONFIG_INVALID`.
 */
export function parseListenAddress(text: string, setting: string): ListenAddress {
  const address = tryParse(text);
  if (address !== null) return address;
  throw new CulvertError({
    code: 'CONFIG_INVALID',
    message: `${setting}: "${text}" is not an address with a port to listen on`,
    hint: 'write it as 127.0.0.1:15000, [::]:15443 or localhost:15000',
  });
}

/** For the table of settings: the same check, so that a start names it together with the other problems. */
export function listenAddressProblem(text: string): string | null {
  return tryParse(text) === null ? 'must be an address with a port to listen on' : null;
}

function tryParse(text: string): ListenAddress | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text);
  const [, bracketed, bare = ''] = match ?? [];
  const isHost = bracketed === undefined ? isName(bare) || isIP(bare) === 4 : isIP(bracketed) === 6;
  const port = Number(match?.[3]);
  return isHost && port <= 65_535 ? { host: bracketed ?? bare, port } : null;
}

/** Excludes mistyped IPv4 addresses: a host name contains a letter. */
function isName(text: string): boolean {
  return /[A-Za-z]/.test(text);
}

/** `name:port`, with brackets around an IPv6 address. */
export function joinHostPort(host: string, port: number): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}
