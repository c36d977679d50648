import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { planLab, plannedNamespaces } from '../../lab/address-plan.js';
import { renderNetwork } from '../../lab/network-script.js';
import type { LabTopology } from '../../lab/topology.js';
import { defaultTopology } from '../../lab/topology.js';

const largest: LabTopology = {
  hasController: true,
  externalHosts: Array.from({ length: 50 }, (_, i) => `external-${i}`),
  hosts: Array.from({ length: 180 }, (_, host) => ({
    name: `node-${host}`,
    workloads: Array.from({ length: host === 0 ? 250 : 1 }, (_, index) => ({
      name: `w${index}`,
      namespace: `host-${host}`,
      serviceAccount: 'default',
    })),
  })),
  services: Array.from({ length: 250 }, (_, i) => ({
    name: `s${i}`,
    namespace: 'x',
    ports: [{ port: 80 }],
    selector: {},
  })),
};

describe('the address plan of a lab', () => {
  it('gives the documented addresses', () => {
    const plan = planLab('cv12ab', defaultTopology);
    const table = [...plan.machines, ...plan.workloads].map((m) => `${m.netns} ${m.ipv4} ${m.ipv6}`);
    assert.deepEqual(table, [
      'cv12ab-controller 198.18.0.2 fd00:c0::2',
      'cv12ab-node1 198.18.0.11 fd00:c0::11',
      'cv12ab-node2 198.18.0.12 fd00:c0::12',
      'cv12ab-web.shop 198.18.11.2 fd00:c0:1::2',
      'cv12ab-api.shop 198.18.11.3 fd00:c0:1::3',
      'cv12ab-intruder.guest 198.18.11.4 fd00:c0:1::4',
      'cv12ab-cache.shop 198.18.12.2 fd00:c0:2::2',
      'cv12ab-site.shop 198.18.12.3 fd00:c0:2::3',
      'cv12ab-bastion.ops 198.18.12.4 fd00:c0:2::4',
    ]);
    assert.deepEqual(
      plan.services.map((service) => `${service.ipv4} ${service.ipv6}`),
      ['198.18.200.1 fd00:c0:ffff::1', '198.18.200.2 fd00:c0:ffff::2'],
    );
  });

  it('gives no address, namespace or interface twice, in the largest lab either', () => {
    const plan = planLab('cv12ab', largest);
    const everything = [plan.fabric, ...plan.machines, ...plan.workloads, ...plan.services];
    const addresses = everything.flatMap((one) => [one.ipv4, one.ipv6]);
    assert.equal(new Set(addresses).size, addresses.length);
    const namespaces = plannedNamespaces(plan);
    assert.equal(new Set(namespaces).size, namespaces.length);
    const links = [...plan.machines.map((m) => m.fabricLink), ...plan.workloads.map((w) => `${w.host} ${w.hostLink}`)];
    assert.equal(new Set(links).size, links.length);
  });

  it('keeps interface names within the 15 characters of the kernel', () => {
    const plan = planLab('cv12ab', largest);
    for (const name of [...plan.machines.map((m) => m.fabricLink), ...plan.workloads.map((w) => w.hostLink)]) {
      assert.ok(name.length <= 15, name);
    }
  });

  it('gives every host a route to the workloads of every other', () => {
    const { machines } = renderNetwork(planLab('cv12ab', defaultTopology));
    const node1 = machines.find((script) => script.netns === 'cv12ab-node1');
    assert.ok(node1?.ipCommands.includes('route add 198.18.12.0/24 via 198.18.0.12'));
    assert.ok(node1?.ipCommands.includes('route add fd00:c0:2::/64 via fd00:c0::12'));
    assert.ok(!node1?.ipCommands.some((line) => line.includes('198.18.11.0/24')));
  });

  const workload = { name: 'web', namespace: 'shop', serviceAccount: 'web' };
  const refused: readonly [what: string, topology: LabTopology, message: RegExp][] = [
    ['two hosts of one name', { hosts: [{ name: 'a' }, { name: 'a' }] }, /host "a" exists twice/],
    ['a host called as the fabric', { hosts: [{ name: 'fabric' }] }, /host "fabric" exists twice/],
    [
      'two workloads of one name',
      { hosts: [{ name: 'a', workloads: [workload, workload] }] },
      /"shop\/web" exists twice/,
    ],
    [
      'a name with a slash in it',
      { hosts: [{ name: 'a', workloads: [{ ...workload, name: 'a/b' }] }] },
      /is not a name for a workload/,
    ],
    ['a name in capitals', { hosts: [{ name: 'Node' }] }, /"Node" is not a name for a host/],
    ['too many hosts', { hosts: Array.from({ length: 181 }, (_, i) => ({ name: `n${i}` })) }, /181 hosts are too many/],
  ];
  for (const [what, topology, message] of refused) {
    it(`refuses ${what}`, () => {
      assert.throws(() => planLab('cv12ab', topology), { code: 'LAB_TOPOLOGY', message });
    });
  }
});
