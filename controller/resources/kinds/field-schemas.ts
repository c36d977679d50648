import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { formatCidr, ipBytes, parseCidr, parseIp, type IpAddress } from '../../../shared/address.js';
import { fieldNotes } from './field-notes.js';

const label = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const subdomainPattern = new RegExp(`^(?=.{1,253}$)${label}(?:\\.${label})*$`);
const labelPattern = new RegExp(`^${label}$`);
const labelNamePattern = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
const lowerCase = 'must be lower-case letters, digits, "-" and "."';

/** DNS-1123 subdomain, as Kubernetes names resources, service accounts and nodes. 1 to 253 characters. */
export function subdomainField(example: string) {
  return z.string().regex(subdomainPattern, lowerCase).register(fieldNotes, { example, type: 'name' });
}

/** DNS-1123 label: the name of a namespace. */
export const namespaceField = z
  .string()
  .regex(labelPattern, 'must be at most 63 lower-case letters, digits and "-"')
  .register(fieldNotes, { example: 'billing', type: 'namespace' });

/** `namespace/name`, of a service account or a workload. */
export function namespacedNameField(example: string) {
  return z
    .string()
    .refine((text) => isNamespacedName(text), 'must be NAMESPACE/NAME')
    .register(fieldNotes, {
      example,
      type: '`NAMESPACE/NAME`',
      openApi: { pattern: `^${label}/${label}(?:\\.${label})*$` },
    });
}

export function isNamespacedName(text: string): boolean {
  const [namespace, name, ...rest] = text.split('/');
  if (namespace === undefined || name === undefined || rest.length > 0) return false;
  return labelPattern.test(namespace) && subdomainPattern.test(name);
}

/** Labels as Kubernetes accepts them: an optional DNS prefix; names and values of at most 63 characters. */
export const labelsField = z
  .record(
    z.string().refine(isLabelKey, 'is not a label name: at most 63 letters, digits, "-", "_" and "."'),
    z
      .string()
      .refine((text) => text === '' || labelNamePattern.test(text), 'is not a label value: at most 63 characters')
      .register(fieldNotes, { example: 'api' }),
  )
  .register(fieldNotes, {
    example: '{ app: api }',
    type: 'labels',
    limits: 'names and values as in Kubernetes, of at most 63 characters',
  });

function isLabelKey(text: string): boolean {
  const slash = text.indexOf('/');
  const prefix = slash < 0 ? null : text.slice(0, slash);
  return (prefix === null || subdomainPattern.test(prefix)) && labelNamePattern.test(text.slice(slash + 1));
}

/** Labels that select something. An empty selector is refused because it would silently select everything. */
export const selectorField = labelsField
  .refine((labels) => Object.keys(labels).length > 0, 'must name at least one label')
  .register(fieldNotes, { example: '{ app: api }', type: 'labels', openApi: { minProperties: 1 } });

export const portField = z
  .number()
  .refine(isPort, 'must be a port from 1 to 65535')
  .register(fieldNotes, {
    example: '5432',
    type: 'port',
    openApi: { type: 'integer', minimum: 1, maximum: 65_535 },
  });

/** Whether a connection is accepted before its far side is connected; true without it. */
export const earlyAcceptField = z.boolean().exactOptional().register(fieldNotes, { example: 'false' });

export function isPort(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= 65_535;
}

/**
 * The name of a port, as Kubernetes takes it for a container (RFC 6335 in lower case). It has a letter, so it is never
 * taken for a number or a range.
 */
export function isPortName(text: string): boolean {
  return /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*$/.test(text);
}

export const portNameField = z
  .string()
  .refine(isPortName, 'must be at most 15 lower-case letters, digits and "-", with at least one letter')
  .register(fieldNotes, { example: 'http', type: 'port name' });

/** A unicast address that a host can have, in its canonical spelling. */
export const addressField = z
  .string()
  .transform((text, context): IpAddress => {
    const ip = parseIp(text);
    const problem = ip === undefined ? 'is not an IP address' : unusableAddress(ip);
    if (ip !== undefined && problem === undefined) return ip;
    context.issues.push({ code: 'custom', input: text, message: problem ?? 'is not an IP address' });
    return z.NEVER;
  })
  .register(fieldNotes, {
    example: '198.18.0.10',
    type: 'IP address',
    limits: 'unicast, and neither loopback nor unspecified',
  });

const unusableRanges: ReadonlyMap<string, string> = new Map([
  ['unspecified', 'the unspecified address'],
  ['broadcast', 'the broadcast address'],
  ['multicast', 'a multicast address'],
  ['loopback', 'a loopback address'],
]);

function unusableAddress(ip: IpAddress): string | undefined {
  const range = unusableRanges.get(ipaddr.parse(ip).range());
  return range === undefined ? undefined : `is ${range}, which no workload or service can have`;
}

/** A network prefix or a single address, in its canonical spelling. Bits right of the prefix are a mistake. */
export const cidrField = z
  .string()
  .transform((text, context): string => {
    const cidr = parseCidr(text);
    if (cidr !== undefined) return formatCidr(cidr);
    const masked = maskedCidr(text);
    const message =
      masked === undefined ? 'is not a CIDR' : `has bits set right of its prefix; the network is ${masked}`;
    context.issues.push({ code: 'custom', input: text, message });
    return z.NEVER;
  })
  .register(fieldNotes, {
    example: '10.0.0.0/8',
    type: 'CIDR',
    limits: 'a network or a single address, without bits set to the right of the prefix',
  });

/** The same as Istio and Kubernetes accept it: bits right of the prefix are cleared. */
export const networkField = z
  .string()
  .transform((text, context): string => {
    const masked = parseCidr(text) === undefined ? maskedCidr(text) : text;
    if (masked !== undefined) return masked;
    context.issues.push({ code: 'custom', input: text, message: 'is neither an IP address nor a CIDR' });
    return z.NEVER;
  })
  .register(fieldNotes, {
    example: '10.0.0.0/8',
    type: 'CIDR',
    limits: 'a network or a single address; bits to the right of the prefix are cut off',
  });

/** The network of a prefix with host bits (`10.1.2.3/8` → `10.0.0.0/8`); undefined when the text is no prefix. */
export function maskedCidr(text: string): string | undefined {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  const ip = match?.[1] === undefined ? undefined : parseIp(match[1]);
  const prefixLength = Number(match?.[2]);
  if (ip === undefined) return undefined;
  const bytes = ipBytes(ip);
  if (prefixLength > bytes.length * 8) return undefined;
  const kept = bytes.map((byte, index) => byte & (0xff << (8 - Math.min(8, Math.max(0, prefixLength - index * 8)))));
  const network = ipaddr.fromByteArray(kept.map((byte) => byte & 0xff));
  return `${network.toString()}/${prefixLength}`;
}
