import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { CulvertError } from '../../shared/errors.js';
import type { LabTopology } from './topology.js';

const labels = z.record(z.string(), z.string());
const port = z.number().int().min(1).max(65_535);

const topologySchema = z.strictObject({
  hosts: z.array(
    z.strictObject({
      name: z.string(),
      workloads: z
        .array(
          z.strictObject({
            name: z.string(),
            namespace: z.string(),
            serviceAccount: z.string(),
            labels: labels.exactOptional(),
            ports: z
              .array(z.strictObject({ name: z.string(), port, earlyAccept: z.boolean().exactOptional() }))
              .exactOptional(),
            capture: z
              .strictObject({
                excludeOutboundPorts: z.array(port).exactOptional(),
                excludeInboundPorts: z.array(port).exactOptional(),
                excludeOutboundCidrs: z.array(z.string()).exactOptional(),
              })
              .exactOptional(),
            isMeshed: z.boolean().exactOptional(),
          }),
        )
        .exactOptional(),
    }),
  ),
  services: z
    .array(
      z.strictObject({
        name: z.string(),
        namespace: z.string(),
        ports: z.array(
          z.strictObject({ port, targetPort: port.exactOptional(), earlyAccept: z.boolean().exactOptional() }),
        ),
        selector: labels,
      }),
    )
    .exactOptional(),
  hasController: z.boolean().exactOptional(),
  externalHosts: z.array(z.string()).exactOptional(),
  mtu: z.number().int().min(1280).max(65_535).exactOptional(),
});

/** Reads a topology from a YAML file. Throws `LAB_TOPOLOGY` with every problem and its path. */
export function readTopologyFile(file: string): LabTopology {
  let document: unknown;
  try {
    document = parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    const message = `The topology ${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new CulvertError({
      code: 'LAB_TOPOLOGY',
      message,
      hint: 'it is a YAML file, see test/lab/topology.ts',
      cause,
    });
  }
  const parsed = topologySchema.safeParse(document);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ');
  const message = `The topology ${file} is not valid: ${problems}.`;
  throw new CulvertError({ code: 'LAB_TOPOLOGY', message, hint: 'the fields are described in test/lab/topology.ts' });
}
