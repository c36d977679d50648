import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { CompiledVirtualService, RouteMatch } from '../../../../shared/policy/traffic-documents.js';
import { drawnChoice, firstRoute, type RouteFacts } from '../../../../shared/routing/traffic-routes.js';
import { policyOfRule, TrafficPolicies } from '../../../../shared/routing/traffic-policies.js';
import { RandomChoices } from '../../../support/mesh/random-choices.js';
import { ip } from '../../../support/routing/registry-entries.js';

const host = 'web.shop.svc.cluster.local';
const facts: RouteFacts = {
  client: { namespace: 'billing', labels: { app: 'api', tier: 'a' } },
  dialled: { ip: ip('198.19.0.1'), port: 80 },
};

function document(...matches: readonly (readonly RouteMatch[])[]): CompiledVirtualService {
  const routes = matches.map((each, index) => ({ matches: each, choices: [{ subset: `v${index}`, weight: 1 }] }));
  return { namespace: 'shop', name: 'web', host, routes };
}

describe('a route matches', () => {
  const rows: readonly (readonly [match: RouteMatch, isMatch: boolean])[] = [
    [{}, true],
    [{ port: 80 }, true],
    [{ port: 81 }, false],
    [{ sourceNamespace: 'billing' }, true],
    [{ sourceNamespace: 'shop' }, false],
    [{ sourceLabels: { app: 'api' } }, true],
    [{ sourceLabels: { app: 'api', tier: 'a' } }, true],
    [{ sourceLabels: { app: 'api', tier: 'b' } }, false],
    [{ sourceLabels: { other: '' } }, false],
    [{ destinationSubnets: ['198.19.0.0/16'] }, true],
    [{ destinationSubnets: ['10.0.0.0/8', '198.19.0.1/32'] }, true],
    [{ destinationSubnets: ['10.0.0.0/8', 'fd00::/8'] }, false],
    [{ port: 80, sourceNamespace: 'billing', sourceLabels: { app: 'api' }, destinationSubnets: ['0.0.0.0/0'] }, true],
    [{ port: 80, sourceNamespace: 'shop' }, false],
  ];
  for (const [match, isMatch] of rows) {
    it(`${JSON.stringify(match)}: ${String(isMatch)}`, () => {
      assert.equal(firstRoute(document([match]), facts) !== null, isMatch);
    });
  }

  it('when one of its alternatives does, and the first of several counts', () => {
    assert.equal(firstRoute(document([{ port: 1 }, { port: 80 }], []), facts)?.index, 0);
    assert.equal(firstRoute(document([{ port: 1 }], [], [{ port: 80 }]), facts)?.index, 1);
    assert.equal(firstRoute(document([{ port: 1 }], [{ port: 2 }]), facts), null);
  });
});

describe('a choice by weight', () => {
  const weights = (...of: readonly number[]) => of.map((weight, index) => ({ subset: `v${index}`, weight }));

  it('is the only one, whatever its weight', () => {
    assert.equal(
      drawnChoice(weights(0), () => 0.9),
      0,
    );
  });

  it('has the shares of the weights, which need not add up to 100, and none with the weight 0', () => {
    for (const of of [
      [90, 10],
      [1, 0, 3],
      [2, 2, 2, 0, 1],
    ]) {
      const random = new RandomChoices({ seed: of.length });
      const times = 20_000;
      const counts = of.map(() => 0);
      for (let i = 0; i < times; i++) {
        counts[drawnChoice(weights(...of), () => random.next())]! += 1;
      }
      const sum = of.reduce((all, weight) => all + weight, 0);
      for (const [index, weight] of of.entries()) {
        const share = weight / sum;
        // Three standard deviations; the seed is fixed.
        const tolerance = 3 * Math.sqrt(times * share * (1 - share));
        assert.ok(Math.abs(counts[index]! - times * share) <= tolerance, `${of.join('/')}: ${counts.join('/')}`);
      }
    }
  });

  it('is never one with the weight 0, at the ends of chance either', () => {
    for (const random of [0, 0.5, 1 - 2 ** -53]) {
      assert.equal(
        drawnChoice(weights(0, 5, 0), () => random),
        1,
      );
    }
  });
});

describe('subsets', () => {
  const mesh = { defaultAction: 'allow', outbound: 'allow', mtls: 'STRICT', rootNamespace: 'root' } as const;
  const subset = {
    name: 'v2',
    labels: { version: 'v2' },
    policy: { balancing: 'random' },
    ports: { '81': {} },
  } as const;
  const rule = {
    namespace: 'shop',
    name: 'web',
    host,
    policy: { balancing: 'source-ip' },
    ports: { '82': { balancing: 'round-robin' } },
    subsets: [subset, { name: 'v3', labels: {}, policy: {}, ports: {} }],
  } as const;
  const known = new TrafficPolicies({ mesh, destinationRules: [rule], virtualServices: [document([])] });
  const web = { namespace: 'shop', name: 'web' };

  it('are those of the rule that counts for the client', () => {
    const subsetsOf = (service: typeof web) => known.ruleFor(service, 'billing')?.subsets?.map(({ name }) => name);
    assert.deepEqual(subsetsOf(web), ['v2', 'v3']);
    assert.equal(subsetsOf({ namespace: 'shop', name: 'db' }), undefined);
  });

  it('have a policy that precedes that of the service, and one of a port that replaces both', () => {
    const at = (dialledPort: number, name: string) =>
      policyOfRule(
        rule,
        dialledPort,
        rule.subsets.find((each) => each.name === name)!,
      );
    assert.deepEqual(
      [at(80, 'v2'), at(81, 'v2'), at(82, 'v2')],
      [{ balancing: 'random' }, {}, { balancing: 'random' }],
    );
    assert.deepEqual([at(80, 'v3'), at(82, 'v3')], [{ balancing: 'source-ip' }, { balancing: 'round-robin' }]);
  });

  it('are led to by the document that counts', () => {
    assert.equal(known.routeFor(web, facts)?.choices[0]?.subset, 'v0');
    assert.equal(known.routeFor({ namespace: 'shop', name: 'db' }, facts), null);
  });
});
