import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { after, describe, it } from 'node:test';
import { HostedWorkload } from '../../../../../agent/dataplane/listen/hosted-workload.js';
import { countedDestination } from '../../../../../agent/dataplane/report/counted-destination.js';
import { WorkerState } from '../../../../../agent/dataplane/state/worker-state.js';
import { plainSnapshot } from '../../../../../shared/policy/snapshot.js';
import { type CompiledDestinationRule, type OutlierPolicy } from '../../../../../shared/policy/traffic-documents.js';
import { registryKey } from '../../../../../shared/routing/registry-entry.js';
import { workloadNamed } from '../../../../support/routing/names.js';
import { ip, service } from '../../../../support/routing/registry-entries.js';

const outliers: OutlierPolicy = {
  failures: 1,
  baseEjectionMs: 1000,
  decayMs: 1000,
  maxEjectionPercent: 100,
  minHealthPercent: 0,
};
const web = service('shop/web', [ip('198.18.200.1')]);
const rule = (rest: Partial<CompiledDestinationRule> = {}): CompiledDestinationRule => ({
  namespace: 'shop',
  name: 'r',
  host: 'web.shop.svc.cluster.local',
  policy: { outliers },
  ports: {},
  ...rest,
});
const netnsPath = '/proc/self/ns/net';
const client = HostedWorkload.open({
  name: workloadNamed('shop/client'),
  netnsPath,
  netnsInode: statSync(netnsPath).ino,
  slot: 0,
});
after(() => client.close());

function stateWith(destinationRules: readonly CompiledDestinationRule[]): WorkerState {
  const state = new WorkerState();
  const mesh = { defaultAction: 'allow', outbound: 'allow', mtls: 'STRICT', rootNamespace: 'root' } as const;
  const meta = { revision: 1, createdAt: '', createdBy: '', trustDomain: 'culvert.test', mesh };
  state.useSnapshot({ ...meta, rules: [], authorizationPolicies: [], ...plainSnapshot, destinationRules });
  state.registry.apply({ image: null, upserts: [web], removals: [] });
  state.hosted.set(client.name, client);
  return state;
}

const of = (subset: string | null = null) =>
  countedDestination(rule(), web, { subset: subset === null ? null : { name: subset }, dialledPort: 80 });

describe('what a rule has ejected', () => {
  it('counts while the rule ejects, for a client that is here and a service that is there', () => {
    const state = stateWith([rule()]);
    assert.equal(state.ejectionRules()(of()), true);
    state.hosted.clear();
    assert.equal(state.ejectionRules()(of()), false);
    state.hosted.set(client.name, client);
    state.registry.apply({ image: null, upserts: [], removals: [registryKey(web)] });
    assert.equal(state.ejectionRules()(of()), false);
  });

  for (const [what, rules] of [
    ['is gone', []],
    ['ejects nothing any more', [rule({ policy: {} })]],
    ['is for another service', [rule({ host: 'db.shop.svc.cluster.local' })]],
    ['has nothing of it for the port', [rule({ ports: { '80': {} } })]],
    ['gives way to another one', [rule({ host: '*.shop.svc.cluster.local' }), rule({ name: 'nearer' })]],
  ] as const) {
    it(`does not count where the rule ${what}`, () => {
      assert.equal(stateWith(rules).ejectionRules()(of()), false);
    });
  }

  it('counts for a subset while the rule has the subset', () => {
    const subset = { name: 'v1', labels: { version: 'v1' }, policy: {}, ports: {} };
    assert.equal(stateWith([rule({ subsets: [subset] })]).ejectionRules()(of('v1')), true);
    assert.equal(stateWith([rule({ subsets: [subset] })]).ejectionRules()(of('v2')), false);
    assert.equal(stateWith([rule()]).ejectionRules()(of('v1')), false);
  });
});
