import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import type { Balancing, CompiledDestinationRule } from '../../../../shared/policy/traffic-documents.js';
import { isWildcard, serviceHost, wildcardMatches } from '../../../../shared/routing/service-hosts.js';
import { policyOfRule, TrafficPolicies } from '../../../../shared/routing/traffic-policies.js';

const mesh = { defaultAction: 'allow', outbound: 'allow', mtls: 'STRICT', rootNamespace: 'root' } as const;
const web = { namespace: 'shop', name: 'web' };

function rule(name: string, host: string, rest: Partial<CompiledDestinationRule> = {}): CompiledDestinationRule {
  const [namespace = '', short = ''] = name.split('/');
  return { namespace, name: short, host, policy: {}, ports: {}, ...rest };
}

function policies(...destinationRules: readonly CompiledDestinationRule[]): TrafficPolicies {
  return new TrafficPolicies({ mesh, destinationRules });
}

function nameFor(found: CompiledDestinationRule | null): string | null {
  return found === null ? null : `${found.namespace}/${found.name}`;
}

const whole = 'web.shop.svc.cluster.local';

/** Each row: the rules, and which of them counts for clients of billing, shop and the root namespace to shop/web. */
describe('the rule that counts', () => {
  type Row = readonly [
    what: string,
    rules: readonly CompiledDestinationRule[],
    expected: { readonly billing: string | null; readonly shop: string | null; readonly root: string | null },
  ];
  const rows: readonly Row[] = [
    ['none', [], { billing: null, shop: null, root: null }],
    [
      'that of the service is for all clients',
      [rule('shop/s', whole)],
      { billing: 'shop/s', shop: 'shop/s', root: 'shop/s' },
    ],
    [
      'that of the namespace of the client precedes it',
      [rule('billing/b', whole), rule('shop/s', whole)],
      { billing: 'billing/b', shop: 'shop/s', root: 'shop/s' },
    ],
    [
      'also when it is a wildcard: the namespace is asked before the host',
      [rule('billing/b', '*'), rule('shop/s', whole)],
      { billing: 'billing/b', shop: 'shop/s', root: 'shop/s' },
    ],
    [
      'that of a namespace which has neither client nor service is for nothing',
      [rule('other/o', whole)],
      { billing: null, shop: null, root: null },
    ],
    [
      'that of the root namespace is the last',
      [rule('root/r', '*'), rule('shop/s', whole)],
      { billing: 'shop/s', shop: 'shop/s', root: 'shop/s' },
    ],
    [
      'and is for all where there is no other',
      [rule('root/r', '*.local')],
      { billing: 'root/r', shop: 'root/r', root: 'root/r' },
    ],
    [
      'a private one of the root namespace precedes that of the service for clients there',
      [rule('root/r', '*', { exportTo: ['root'] }), rule('shop/s', whole)],
      { billing: 'shop/s', shop: 'shop/s', root: 'root/r' },
    ],
    [
      'one that is exported to others only is for these, and for its own namespace',
      [rule('shop/s', whole, { exportTo: ['billing'] })],
      { billing: 'shop/s', shop: 'shop/s', root: null },
    ],
    [
      'one that is not exported to a client leaves it to the next',
      [rule('shop/s', whole, { exportTo: ['shop'] }), rule('root/r', '*')],
      { billing: 'root/r', shop: 'shop/s', root: 'root/r' },
    ],
    [
      'the whole name precedes wildcards, and the longest wildcard the others',
      [
        rule('shop/any', '*'),
        rule('shop/local', '*.local'),
        rule('shop/all', '*.shop.svc.cluster.local'),
        rule('shop/services', '*.svc.cluster.local'),
      ],
      { billing: 'shop/all', shop: 'shop/all', root: 'shop/all' },
    ],
    [
      'within what is exported',
      [rule('shop/s', whole, { exportTo: ['shop'] }), rule('shop/all', '*.shop.svc.cluster.local')],
      { billing: 'shop/all', shop: 'shop/s', root: 'shop/all' },
    ],
    ['of another service', [rule('shop/s', 'db.shop.svc.cluster.local')], { billing: null, shop: null, root: null }],
  ];
  for (const [what, rules, expected] of rows) {
    it(what, () => {
      for (const order of [rules, rules.toReversed()]) {
        const known = policies(...order);
        const found = Object.keys(expected).map((client) => [client, nameFor(known.ruleFor(web, client))]);
        assert.deepEqual(Object.fromEntries(found), expected);
        // The second answer is one that was kept.
        const again = Object.keys(expected).map((client) => [client, nameFor(known.ruleFor(web, client))]);
        assert.deepEqual(again, found);
      }
    });
  }
});

/** The order of Istio, written down without an index. */
function naively(rules: readonly CompiledDestinationRule[], service: typeof web, client: string): string | null {
  const host = serviceHost(service);
  const isFor = (each: CompiledDestinationRule): boolean =>
    isWildcard(each.host) ? wildcardMatches(each.host, host) : each.host === host;
  const exported = (each: CompiledDestinationRule): boolean => each.exportTo?.includes(client) ?? true;
  const steps: readonly ((each: CompiledDestinationRule) => boolean)[] = [
    (each) => each.namespace === client && (client !== 'root' || (each.exportTo?.join() ?? '') === client),
    (each) => each.namespace === service.namespace && exported(each),
    (each) => each.namespace === 'root' && exported(each),
  ];
  for (const step of steps) {
    const [best] = rules
      .filter((each) => step(each) && isFor(each))
      .sort((a, b) => Number(isWildcard(a.host)) - Number(isWildcard(b.host)) || b.host.length - a.host.length);
    if (best !== undefined) return `${best.namespace}/${best.name}`;
  }
  return null;
}

it('is the same as without an index, for random rules', () => {
  const namespaces = ['root', 'shop', 'billing', 'other'] as const;
  const hosts = ['*', '*.local', '*.svc.cluster.local', '*.shop.svc.cluster.local', whole, 'db.shop.svc.cluster.local'];
  const someRule = fc.record({
    namespace: fc.constantFrom(...namespaces),
    host: fc.constantFrom(...hosts),
    exportTo: fc.option(fc.uniqueArray(fc.constantFrom(...namespaces), { minLength: 1, maxLength: 3 }), {
      nil: undefined,
    }),
  });
  // One for each host of a namespace: the controller refuses a second.
  const rules = fc.uniqueArray(someRule, { maxLength: 12, selector: ({ namespace, host }) => `${namespace} ${host}` });
  fc.assert(
    fc.property(rules, fc.constantFrom(...namespaces), fc.constantFrom('web', 'db'), (written, client, name) => {
      const compiled = written.map(({ namespace, host, exportTo }, index) =>
        rule(`${namespace}/r${index}`, host, exportTo === undefined ? {} : { exportTo: exportTo.toSorted() }),
      );
      const service = { namespace: 'shop', name };
      assert.equal(nameFor(policies(...compiled).ruleFor(service, client)), naively(compiled, service, client));
    }),
  );
});

describe('the policy', () => {
  const balancing = (value: Balancing) => ({ balancing: value });

  it('of a port replaces that of the rule as a whole, and other ports keep it', () => {
    const ports = { '80': balancing('random'), '81': {} };
    const known = policies(rule('shop/s', whole, { policy: balancing('source-ip'), ports }));
    const found = known.ruleFor(web, 'billing');
    const at = (dialledPort: number) => policyOfRule(found!, dialledPort, null);
    assert.deepEqual([at(80), at(81), at(82)], [balancing('random'), {}, balancing('source-ip')]);
  });

  it('has no warm-up where a subset says how connections are shared, and none of its own', () => {
    const warmup = { durationMs: 1000, minPercent: 10, aggression: 1 };
    const whole_ = rule('shop/s', whole, { policy: { balancing: 'random', warmup } });
    const of = (policy: CompiledDestinationRule['policy']) =>
      policyOfRule(whole_, 80, { name: 'v1', labels: {}, policy, ports: {} });
    assert.deepEqual(of({}), { balancing: 'random', warmup });
    assert.deepEqual(of({ balancing: 'source-ip' }), { balancing: 'source-ip' });
    assert.deepEqual(of({ balancing: 'round-robin', warmup }), { balancing: 'round-robin', warmup });
  });

  it('is null without a rule', () => {
    assert.equal(policies().ruleFor(web, 'billing'), null);
    const other = policies(rule('shop/s', 'db.shop.svc.cluster.local'));
    assert.equal(other.ruleFor(web, 'billing'), null);
  });

  it('is kept over revisions that change none of the rules, and made again over those that do', () => {
    const destinationRules = [rule('shop/s', whole), rule('root/r', '*')];
    const known = new TrafficPolicies({ mesh, destinationRules });
    assert.equal(TrafficPolicies.of({ mesh: { ...mesh }, destinationRules: [...destinationRules] }, known), known);
    for (const changed of [
      { mesh: { ...mesh, rootNamespace: 'shop' }, destinationRules },
      { mesh, destinationRules: destinationRules.slice(1) },
      { mesh, destinationRules: [rule('shop/s', whole), destinationRules[1]!] },
    ]) {
      assert.notEqual(TrafficPolicies.of(changed, known), known);
    }
  });
});
