import { isIP } from 'node:net';

const defaultPort = 4222;

/** The host of `host:port`, `nats://host:port` or `tls://host:port`; an IPv6 address comes without brackets. */
export function hostAndPortOf(server: string): { readonly host: string; readonly port: number } {
  const address = server.replace(/^[a-z]+:\/\//, '');
  if (isIP(address) !== 0) return { host: address, port: defaultPort };
  const { hostname, port } = new URL(`tcp://${address}`);
  return { host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? defaultPort : Number(port) };
}
