import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { buildRegistryImage } from '../../../../agent/dataplane/image/registry-image.js';
import { SharedRegistry } from '../../../../agent/dataplane/pool/shared-registry.js';
import { RegistryIndex } from '../../../../agent/dataplane/route/registry-index.js';
import { RegistryLookup } from '../../../../controller/analysis/registry/registry-lookup.js';
import { resolveDestination } from '../../../../shared/routing/destination.js';
import { registryKey, type RegistryEntry } from '../../../../shared/routing/registry-entry.js';
import type { RegistryView } from '../../../../shared/routing/registry-view.js';
import { ip, registryEntry, someAddresses, someNames } from '../../../support/routing/registry-entries.js';
import { registryViewContract } from '../../../support/routing/registry-view-contract.js';
import { serviceNamed, workloadNamed } from '../../../support/routing/names.js';

/** `imaged` of the entries lie in the image, the others came after it. */
function agentView(entries: readonly RegistryEntry[], imaged: number): RegistryIndex {
  const index = new RegistryIndex();
  index.apply({ image: buildRegistryImage(entries.slice(0, imaged)), upserts: [], removals: [] });
  index.apply({ image: null, upserts: entries.slice(imaged), removals: [] });
  return index;
}

registryViewContract("the agent's image of the registry", (entries) => agentView(entries, entries.length));
registryViewContract("the agent's changes since an empty image", (entries) => agentView(entries, 0));
registryViewContract("the agent's image and changes since", (entries) => agentView(entries, 1));
registryViewContract("the controller's list of entries", (entries) => new RegistryLookup({ entries }));

/** All that can be asked of a view of the small world. */
function answers(view: RegistryView): unknown {
  const services = someNames.map((name) => view.service(serviceNamed(name)));
  return {
    workloads: someNames.map((name) => view.workload(workloadNamed(name))),
    services,
    endpoints: services.map((found) => (found === undefined ? null : view.endpointsOf(found))),
    at: someAddresses.map((address) => [view.workloadAt(ip(address)), view.serviceAt(ip(address))]),
    dialled: someAddresses.flatMap((address) =>
      [80, 81].map((port) => resolveDestination(view, { ip: ip(address), port }, null)),
    ),
  };
}

type Step = {
  readonly isFull: boolean;
  readonly upserts: readonly RegistryEntry[];
  readonly removed: readonly string[];
};

const step: fc.Arbitrary<Step> = fc.record({
  isFull: fc.constantFrom(false, false, false, true),
  upserts: fc.uniqueArray(registryEntry, { maxLength: 6, selector: registryKey }),
  removed: fc.subarray(
    someNames.flatMap((name) => ['workload', 'service'].map((kind) => `${kind}.${name.replace('/', '.')}`)),
    {
      maxLength: 4,
    },
  ),
});

describe("the agent's view and the controller's", () => {
  test('agree on random registries after random changes', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), fc.nat(7), (steps, lateAt) => {
        const shared = new SharedRegistry({ nowMs: () => 0 });
        const [early, late] = [new RegistryIndex(), new RegistryIndex()];
        let current = new Map<string, RegistryEntry>();
        for (const [at, { isFull, upserts, removed }] of steps.entries()) {
          const removals = isFull ? [] : removed;
          const change = shared.absorb({ type: 'registry', isFull: isFull || at === 0, upserts, removals });
          early.apply(change);
          if (at === Math.min(lateAt, steps.length - 1))
            late.apply(shared.replay() ?? assert.fail('nothing to replay'));
          else if (at > lateAt) late.apply(change);

          if (isFull) current = new Map();
          for (const key of removals) current.delete(key);
          for (const entry of upserts) current.set(registryKey(entry), entry);
          const expected = answers(new RegistryLookup({ entries: [...current.values()] }));
          assert.deepEqual(answers(early), expected);
          if (at >= Math.min(lateAt, steps.length - 1)) assert.deepEqual(answers(late), expected);
        }
      }),
      { numRuns: 500 },
    );
  });
});
