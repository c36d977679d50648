import * as fc from 'fast-check';
import type { IpAddress } from '../../../shared/address.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import type { RegistryEntry, RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { nodeNamed } from './names.js';

/** Workloads and services for the tests of what looks them up. */
export const ip = (text: string): IpAddress => text as IpAddress;

/** `name`: `namespace/name`. The service account is the name. */
export function workload(
  name: string,
  addresses: readonly string[],
  labels: WorkloadEntry['labels'] = {},
  ports?: WorkloadEntry['ports'],
): WorkloadEntry {
  const [namespace = '', short = ''] = name.split('/');
  return {
    kind: 'workload',
    namespace,
    name: short,
    serviceAccount: short,
    identity: formatSpiffeId({ trustDomain: 'culvert.test', namespace, serviceAccount: short }),
    labels,
    addresses: addresses.map(ip),
    node: nodeNamed('n1'),
    netns: short,
    protocol: 'hbone',
    capture: { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
    ...(ports === undefined ? {} : { ports }),
  };
}

/** Serves 80 at 8080. */
export function service(
  name: string,
  vips: readonly string[],
  selector: RegistryService['selector'] = { app: 'web' },
): RegistryService {
  const [namespace = '', short = ''] = name.split('/');
  const ports = [{ port: 80, targetPort: 8080 }];
  return { kind: 'service', namespace, name: short, vips: vips.map(ip), ports, selector };
}

// A small world, so that random entries claim the same addresses and select each other often.
export const someNames = ['a', 'b'].flatMap((namespace) => ['x', 'y', 'z'].map((name) => `${namespace}/${name}`));
export const someAddresses = ['198.18.0.1', '198.18.0.2', '198.18.0.3', 'fd00::1', 'fd00::2', 'fd00::3'];

const name = fc.constantFrom(...someNames);
const addresses = fc.uniqueArray(fc.constantFrom(...someAddresses), { maxLength: 3 });
const labels = fc.dictionary(fc.constantFrom('app', 'tier'), fc.constantFrom('1', '2'), {
  maxKeys: 2,
  noNullPrototype: true,
});

const namedPorts = fc.constantFrom(undefined, { http: 8081 }, { http: 9000, db: 5432 }, { db: 5432 });

/** Serves 81 too, at what its workloads call http. */
function withNamedTarget(entry: RegistryService): RegistryService {
  return { ...entry, ports: [...entry.ports, { port: 81, targetPort: 'http' }] };
}

/** One of them may be the address of a workload. */
const named = fc.option(
  fc
    .uniqueArray(fc.constantFrom(...someAddresses, '192.0.2.1'), { minLength: 1, maxLength: 2 })
    .map((texts) => texts.map((text) => ({ address: ip(text), ports: { 80: 8080 } }))),
  { nil: undefined, freq: 2 },
);

function withNamed(entry: RegistryService, endpoints: RegistryService['endpoints']): RegistryService {
  return endpoints === undefined ? entry : { ...entry, endpoints };
}

/** Anything that the registry's format admits: no address, an empty selector, and addresses that others have too. */
export const registryEntry: fc.Arbitrary<RegistryEntry> = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(name, addresses, labels, namedPorts).map((parts) => workload(...parts)) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(name, addresses, labels, named)
      .map(([...parts]) => withNamed(withNamedTarget(service(parts[0], parts[1], parts[2])), parts[3])),
  },
);
