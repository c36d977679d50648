import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EndpointLists } from '../../../../../agent/dataplane/route/endpoint-lists.js';
import { RegistryIndex } from '../../../../../agent/dataplane/route/registry-index.js';
import { ServicePlans } from '../../../../../agent/dataplane/route/service-plans.js';
import { registryKey } from '../../../../../shared/routing/registry-entry.js';
import { TrafficPolicies } from '../../../../../shared/routing/traffic-policies.js';
import { ip, service, workload } from '../../../../support/routing/registry-entries.js';

const dialled = { ip: ip('198.18.200.1'), port: 80 };
const mesh = { defaultAction: 'allow', outbound: 'allow', mtls: 'STRICT', rootNamespace: 'root' } as const;
const host = 'web.shop.svc.cluster.local';
const rule = { namespace: 'shop', name: 'web', host, policy: { balancing: 'random' }, ports: {} } as const;

describe('what connections of a workload to a service get', () => {
  const web = { ...service('shop/web', [dialled.ip]), distribution: 'prefer-same-zone' as const };
  const a = workload('shop/a', ['198.18.0.1'], { app: 'web', version: '1' });
  const b = workload('shop/b', ['198.18.0.2'], { app: 'web', version: '2' });
  const client = workload('shop/client', ['198.18.0.9']);
  const filled = () => {
    const registry = new RegistryIndex();
    registry.apply({ image: null, upserts: [web, a, b, client], removals: [] });
    return { registry, plans: new ServicePlans({ registry, lists: new EndpointLists({ registry }) }) };
  };
  const namesOf = (plans: ServicePlans, policies: TrafficPolicies | null, from = client, to = dialled) => {
    const plan = plans.find(from, to, policies);
    assert.equal(plan.kind, 'service');
    if (plan.kind !== 'service') return [];
    const target = plan.target(0);
    return target.ok ? target.destination.endpoints.map(({ workload: each }) => each?.name) : [target.detail];
  };

  it('is asked once, until the registry or the rules change', () => {
    const { registry, plans } = filled();
    const first = plans.find(client, dialled, null);
    assert.equal(plans.find(client, { ...dialled }, null), first);
    assert.deepEqual(namesOf(plans, null), ['a', 'b']);

    registry.apply({ image: null, upserts: [], removals: [registryKey(a)] });
    assert.notEqual(plans.find(client, dialled, null), first);
    assert.deepEqual(namesOf(plans, null), ['b']);

    const second = plans.find(client, dialled, null);
    const policies = new TrafficPolicies({ mesh, destinationRules: [rule] });
    const third = plans.find(client, dialled, policies);
    assert.notEqual(third, second);
    assert.equal(plans.find(client, dialled, policies), third);
    const target = third.kind === 'service' ? third.target(0) : null;
    assert.deepEqual(target?.ok === true ? target.policy : null, rule.policy);
  });

  it('is bounded by RateLimits of the service that is dialled and of the one that a route leads to, each once', () => {
    const { registry, plans } = filled();
    registry.apply({ image: null, upserts: [service('shop/next', [ip('198.18.200.2')])], removals: [] });
    const limit = { namespace: 'shop', per: 'pair', max: 5, mode: 'enforce' } as const;
    const policies = new TrafficPolicies({
      mesh,
      rateLimits: [
        { ...limit, name: 'all', host: '*', per: 'source' },
        { ...limit, name: 'next', host: 'next.shop.svc.cluster.local' },
      ],
      virtualServices: [
        {
          namespace: 'shop',
          name: 'web',
          host,
          routes: [
            {
              matches: [],
              choices: ['shop/web', 'shop/next'].map((name) => ({
                subset: null,
                weight: 1,
                backend: { service: name, port: 80 },
              })),
            },
          ],
        },
      ],
    });
    const plan = plans.find(client, dialled, policies);
    const limitsOf = (at: number) => {
      const target = plan.kind === 'service' ? plan.target(at) : null;
      return target?.ok === true ? target.limits?.map(({ key }) => key) : null;
    };
    const source = `RateLimit/shop/all from shop/${client.serviceAccount}`;
    assert.deepEqual(limitsOf(0), [source]);
    assert.deepEqual(limitsOf(1), [source, `RateLimit/shop/next from shop/${client.serviceAccount} to shop/next:80`]);
  });

  it('is that of the client, and of the port that it dials', () => {
    const { plans } = filled();
    const subset = { name: 'v1', labels: { version: '1' }, policy: {}, ports: {} };
    const policies = new TrafficPolicies({
      mesh,
      destinationRules: [{ ...rule, subsets: [subset] }],
      virtualServices: [
        {
          namespace: 'shop',
          name: 'web',
          host,
          routes: [
            { matches: [{ sourceLabels: { job: 'a' } }], choices: [{ subset: 'v1', weight: 1 }] },
            { matches: [{ sourceLabels: { job: 'b' } }], choices: [{ subset: 'v2', weight: 1 }] },
          ],
        },
      ],
    });
    const clientOf = (job: string) => workload(`shop/client-${job}`, ['198.18.0.8'], { job });
    assert.deepEqual(namesOf(plans, policies), ['a', 'b']);
    assert.deepEqual(namesOf(plans, policies, clientOf('a')), ['a']);
    const missing = 'which no DestinationRule has for shop/web and clients of shop';
    const text = `VirtualService/shop/web spec.tcp[1] names the subset v2, ${missing}`;
    assert.deepEqual(namesOf(plans, policies, clientOf('b')), [text]);
    assert.deepEqual(namesOf(plans, policies, client, { ...dialled, port: 81 }), []);
  });

  it('is not kept of addresses that are no service, nor of more than 256', () => {
    const { plans } = filled();
    assert.equal(plans.find(client, { ip: ip('198.18.0.1'), port: 80 }, null).kind, 'workload');
    assert.equal(plans.find(client, { ip: ip('203.0.113.1'), port: 80 }, null).kind, 'external');
    const first = plans.find(client, dialled, null);
    for (let port = 1000; port < 1255; port++) plans.find(client, { ...dialled, port }, null);
    assert.equal(plans.find(client, dialled, null), first);
    plans.find(client, { ...dialled, port: 2000 }, null);
    assert.notEqual(plans.find(client, dialled, null), first);
  });
});
