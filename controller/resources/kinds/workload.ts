import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import {
  addressField,
  cidrField,
  earlyAcceptField,
  portField,
  portNameField,
  subdomainField,
} from './field-schemas.js';
import { apiVersionText, culvertApiVersion, kindText, metadataText, namespacedMetadata, specText } from './metadata.js';

/** A name under /run/netns, or the absolute path of a network namespace. */
const netns = z
  .string()
  .max(4096)
  .refine(isNetns, 'must be a name under /run/netns or an absolute path')
  .register(fieldNotes, { example: 'billing-api', type: 'name or path' });

function isNetns(text: string): boolean {
  if (text.startsWith('/')) return !text.includes('\0') && !text.split('/').includes('..');
  return /^[A-Za-z0-9_.-]{1,255}$/.test(text) && text !== '.' && text !== '..';
}

/**
 * The one form of a network namespace's path: texts that lead to the same file have it in common, such as `bank-db`,
 * `/var/run/netns/bank-db` and `//run/./netns/bank-db`. Symbolic links other than /var/run are on the host, and not known here.
 */
export function netnsPath(netns: string): string {
  if (!netns.startsWith('/')) return `/run/netns/${netns}`;
  let parts: string[] = [];
  for (const part of netns.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
    if (parts.length === 2 && parts[0] === 'var' && parts[1] === 'run') parts = ['run'];
  }
  return `/${parts.join('/')}`;
}

/** Traffic of the workload that the agent does not capture. */
const capture = z.strictObject({
  excludeInboundPorts: z
    .array(portField)
    .exactOptional()
    .describe(
      'Connections to these ports of the workload are not captured. No rule and no encryption applies to them.',
    ),
  excludeOutboundPorts: z
    .array(portField)
    .exactOptional()
    .describe('Connections of the workload to these ports, of any destination, are not captured.'),
  excludeOutboundCidrs: z
    .array(cidrField)
    .exactOptional()
    .describe('Connections of the workload to these networks are not captured.'),
});

const namedPort = z
  .strictObject({
    name: portNameField.describe('Name of the port.'),
    port: portField.describe('Its number in this workload.'),
    earlyAccept: earlyAcceptField.describe(
      "`false`: a client's `connect()` to this port of the workload's addresses returns when the workload has accepted, and fails when it refuses. It does not apply to connections through a Service, which has a field of its own.",
    ),
  })
  .register(fieldNotes, { example: '{ name: http, port: 8080 }' });

/** A network namespace plus an identity. Its labels are `metadata.labels`. */
export const workloadSchema = z
  .strictObject({
    apiVersion: z.literal(culvertApiVersion).describe(apiVersionText),
    kind: z.literal('Workload').describe(kindText),
    metadata: namespacedMetadata.describe(metadataText),
    spec: z
      .strictObject({
        serviceAccount: subdomainField('api')
          .default('default')
          .describe('Account in the namespace of the workload. Both make the identity in its certificate.'),
        node: subdomainField('host-a')
          .exactOptional()
          .describe(
            'Host that the workload runs on. Without it, or without `netns`, no agent serves the workload: it is reached in plaintext, and proves no identity.',
          ),
        addresses: z
          .array(addressField)
          .min(1, 'must have at least one address')
          .describe(
            'Addresses of the workload, IPv4 and IPv6. It can use only these as its source: a connection from another address of its network namespace is refused. No other workload or service may have them.',
          )
          .register(fieldNotes, { example: '["198.18.0.10"]' }),
        netns: netns
          .exactOptional()
          .describe('Network namespace of the workload on its host: a name under /run/netns, or an absolute path.')
          .register(fieldNotes, { limits: 'only together with `node`' }),
        zone: z
          .string()
          .regex(
            /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?$/,
            'must be letters, digits, "-", "_", "." and "/"',
          )
          .exactOptional()
          .describe(
            'Where the node is, such as a zone of a cloud or a room: Services with `trafficDistribution` prefer what is in the zone of the client.',
          )
          .register(fieldNotes, { example: 'eu-1a', type: 'name', limits: 'only together with `node`' }),
        ports: z
          .array(namedPort)
          .superRefine((ports, context) => {
            for (const field of ['name', 'port'] as const) {
              for (const [index, entry] of ports.entries()) {
                if (ports.findIndex((other) => other[field] === entry[field]) === index) continue;
                context.addIssue({ code: 'custom', path: [index, field], message: 'is listed twice' });
              }
            }
          })
          .exactOptional()
          .describe('Names of ports, by which rules and services can refer to them.')
          .register(fieldNotes, { example: '[{ name: http, port: 8080 }]', limits: 'each name and each port once' }),
        capture: capture.exactOptional().describe('Traffic that the agent leaves alone.'),
      })
      .describe(specText)
      .superRefine((spec, context) => {
        if (spec.node !== undefined) return;
        const message = 'needs the node that it is on: add spec.node';
        for (const field of ['netns', 'zone'] as const) {
          if (spec[field] !== undefined) context.addIssue({ code: 'custom', path: [field], message });
        }
      })
      .register(fieldNotes, {
        openApi: {
          rules: {
            'netns needs the node that it is on': '!has(self.netns) || has(self.node)',
            'zone needs the node that it is on': '!has(self.zone) || has(self.node)',
          },
        },
      }),
  })
  .describe(
    'Something that opens or accepts connections: a network namespace with addresses and an identity. The labels in its metadata are what selectors select by.',
  );

export type Workload = z.output<typeof workloadSchema>;

/** The ports with `earlyAccept: false` in the form of the registry, where a workload without any has no such field. */
export function lateAcceptPortsOf({
  ports = [],
}: {
  readonly ports?: readonly { readonly port: number; readonly earlyAccept?: boolean }[];
}): {
  readonly lateAcceptPorts?: readonly number[];
} {
  const late = ports.flatMap(({ port, earlyAccept }) => (earlyAccept === false ? [port] : []));
  return late.length === 0 ? {} : { lateAcceptPorts: late.sort((a, b) => a - b) };
}

/** The named ports in the form of the registry, where a workload without any has no such field. */
export function namedPortsOf({ ports = [] }: Pick<Workload['spec'], 'ports'>): {
  readonly ports?: Readonly<Record<string, number>>;
} {
  return ports.length === 0 ? {} : { ports: Object.fromEntries(ports.map(({ name, port }) => [name, port])) };
}
