import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { buildRegistryImage } from '../../../../../agent/dataplane/image/registry-image.js';
import { RegistryIndex } from '../../../../../agent/dataplane/route/registry-index.js';
import { SharedRegistry } from '../../../../../agent/dataplane/pool/shared-registry.js';
import type { IpAddress } from '../../../../../shared/address.js';
import { formatSpiffeId } from '../../../../../shared/identity.js';
import {
  registryKey,
  type RegistryEntry,
  type RegistryService,
  type WorkloadEntry,
} from '../../../../../shared/routing/registry-entry.js';
import { workloadNamed } from '../../../../support/routing/names.js';

const namespaces = 5;
const apps = 4;
const names = 2500;
const addresses = 3000;

/** Numbers that look random and are the same in every run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const ipAt = (number: number): IpAddress =>
  (number % 3 === 0 ? `fd00::${number.toString(16)}` : `198.18.${number >> 8}.${number & 255}`) as IpAddress;

function workload(number: number, init: Partial<WorkloadEntry> = {}): WorkloadEntry {
  const namespace = `ns-${number % namespaces}`;
  return {
    kind: 'workload',
    namespace,
    name: `w-${number}`,
    serviceAccount: 'sa-ü',
    identity: formatSpiffeId({ trustDomain: 'culvert.test', namespace, serviceAccount: 'sa' }),
    labels: { app: `a-${number % apps}`, ümlaut: '✓' },
    addresses: [ipAt(number)],
    node: null,
    netns: null,
    protocol: 'tcp',
    capture: { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
    ...init,
  };
}

function service(number: number, app: number): RegistryService {
  return {
    kind: 'service',
    namespace: `ns-${number % namespaces}`,
    name: `s-${number}`,
    vips: [`198.19.0.${number}` as IpAddress],
    ports: [{ port: 80, targetPort: 80 }],
    selector: { app: `a-${app}`, ümlaut: '✓' },
  };
}

/** All that can be asked of an index. */
function answers(index: RegistryIndex): unknown {
  const services = Array.from({ length: 20 }, (_, at) => index.serviceAt(`198.19.0.${at}` as IpAddress));
  return {
    size: index.size,
    byAddress: Array.from({ length: addresses }, (_, at) => index.workloadAt(ipAt(at))),
    byName: Array.from({ length: names }, (_, at) => index.workload(workloadNamed(`ns-${at % namespaces}/w-${at}`))),
    services,
    endpoints: services.map((found) => (found === undefined ? null : index.endpointsOf(found))),
  };
}

describe('the registry in shared memory', () => {
  test('gives a late worker, and one that was there from the start, the same answers as a registry of objects', () => {
    const random = numbers(7);
    const shared = new SharedRegistry({ nowMs: () => 0 });
    const [plain, early] = [new RegistryIndex(), new RegistryIndex()];
    let images = 0;
    for (let round = 0; round < 40; round++) {
      const upserts: RegistryEntry[] = Array.from({ length: random(400) }, () => {
        const number = random(names);
        // Some take an address of another, as for a moment in a move.
        return workload(number, {
          addresses: [ipAt(number), ipAt(random(addresses))],
          labels: { app: `a-${random(apps)}`, ümlaut: '✓' },
        });
      });
      upserts.push(service(random(20), random(apps)));
      const removals = Array.from({ length: random(150) }, () => registryKey(workload(random(names))));
      removals.push(registryKey(service(random(20), 0)));
      const message = { type: 'registry', isFull: round === 0, upserts, removals } as const;
      const change = shared.absorb(message);
      if (change.image !== null) images += 1;
      early.apply(change);
      plain.apply({ image: null, upserts, removals });
      if (round % 10 !== 9) continue;
      const late = new RegistryIndex();
      late.apply(shared.replay() ?? assert.fail('there is something to replay'));
      const expected = answers(plain);
      assert.deepEqual(answers(early), expected);
      assert.deepEqual(answers(late), expected);
    }
    assert.ok(images > 2, 'the image was made again on the way');
  });

  test('starts over with what a full message names', () => {
    const shared = new SharedRegistry({ nowMs: () => 0 });
    shared.absorb({ type: 'registry', isFull: true, upserts: [workload(1), workload(2)], removals: [] });
    shared.absorb({ type: 'registry', isFull: false, upserts: [workload(3)], removals: [registryKey(workload(1))] });
    const { image, upserts, removals } = shared.absorb({
      type: 'registry',
      isFull: true,
      upserts: [workload(4)],
      removals: [],
    });
    const index = new RegistryIndex();
    index.apply({ image, upserts, removals });
    assert.equal(index.size, 1);
    assert.equal(index.workloadAt(ipAt(4))?.name, 'w-4');
  });

  test('has nothing to replay before the first message', () => {
    assert.equal(new SharedRegistry({ nowMs: () => 0 }).replay(), null);
  });

  test('gives the same object for an entry that is found again', () => {
    const index = new RegistryIndex();
    index.apply({ image: buildRegistryImage([workload(1)]), upserts: [], removals: [] });
    assert.ok(index.workloadAt(ipAt(1)) === index.workload(workloadNamed('ns-1/w-1')));
  });
});
