import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { unreachable } from '../../../../../agent/dataplane/connection/ending.js';
import type { SpiffeId } from '../../../../../shared/identity.js';
import { registryKey, type RegistryEntry } from '../../../../../shared/routing/registry-entry.js';
import { elsewhere, OutboundWorld } from '../../../../support/agent/outbound-world.js';

const [a, b, c] = [elsewhere('a', '198.18.0.1'), elsewhere('b', '198.18.0.2'), elsewhere('c', '198.18.0.3')] as const;

/** Which endpoints a connection tried, in turns, where the registry changes during the first try, and how it ended. */
async function tried(change: { upserts?: RegistryEntry[]; removals?: string[] }) {
  const seen: [ip: string, identity: SpiffeId][] = [];
  using world = new OutboundWorld({
    endpoints: [a, b, c],
    open: ({ destinationIp, destinationIdentity }) => {
      if (seen.length === 0) world.state.registry.apply({ image: null, upserts: [], removals: [], ...change });
      seen.push([destinationIp, destinationIdentity]);
      return unreachable('CONNECT_TIMEOUT', destinationIp);
    },
  });
  return { seen, ended: await world.connect().ended };
}

describe('another endpoint', () => {
  it('is tried as the registry has it when its turn comes', async () => {
    const renamed = { ...b, identity: 'spiffe://culvert.test/ns/shop/sa/other' as SpiffeId };
    const { seen, ended } = await tried({ upserts: [renamed] });
    assert.deepEqual(seen, [
      ['198.18.0.1', a.identity],
      ['198.18.0.2', renamed.identity],
      ['198.18.0.3', c.identity],
    ]);
    assert.equal(ended, 'CONNECT_TIMEOUT 198.18.0.3');
  });

  it('is passed over when its workload has left meanwhile, also where another has its address', async () => {
    const heir = { ...elsewhere('heir', '198.18.0.2'), labels: { app: 'other' } };
    for (const upserts of [[], [heir]]) {
      const { seen, ended } = await tried({ upserts, removals: [registryKey(b)] });
      assert.deepEqual(
        seen.map(([address]) => address),
        ['198.18.0.1', '198.18.0.3'],
      );
      assert.equal(ended, 'CONNECT_TIMEOUT 198.18.0.3');
    }
  });
});
