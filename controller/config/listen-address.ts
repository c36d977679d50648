import { isIP } from 'node:net';
import { CulvertError } from '../../shared/errors.js';

export type ListenAddress = { readonly host: string; readonly port: number };

/**
 * Reads `0.0.0.0:15443`, `[::]:15443` or `localhost:0` (port 0: any free one). `setting` is the name for the error.
 * Throws CulvertError `CONFIG_INVALID`.
 */
export function parseListenAddress(text: string, setting: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port <= 65_535) || (match?.[1] !== undefined && isIP(host) !== 6)) {
    throw new CulvertError({
      code: 'CONFIG_INVALID',
      message: `${setting}: "${text}" is not an address with a port`,
      hint: 'write it as 0.0.0.0:15443 or [::]:15443',
    });
  }
  return { host, port };
}

/** `name:port`, with brackets around an IPv6 address. */
export function joinHostPort(host: string, port: number): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}
