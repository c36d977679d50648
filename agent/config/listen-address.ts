import { parseIp } from '../../shared/address.js';
import { CulvertError } from '../../shared/errors.js';

export type ListenAddress = { readonly host: string; readonly port: number };

/**
 * Reads `127.0.0.1:15000` or `[::]:15020`. Port 0 lets the kernel choose. `[::]` takes IPv4 as well. Throws
 * CulvertError `CONFIG_INVALID`.
 */
export function parseListenAddress(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const host = parseIp(match?.[1] ?? match?.[2] ?? '');
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    throw new CulvertError({
      code: 'CONFIG_INVALID',
      message: `"${text}" is not an address to listen on`,
      hint: 'write an IP address and a port, such as 127.0.0.1:15000 or [::]:15020',
    });
  }
  return { host, port };
}
