import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDocuments } from '../../../controller/resources/parse/parse-documents.js';
import { planLab } from '../../lab/address-plan.js';
import { renderHostsFile } from '../../lab/hosts-file.js';
import { renderResources } from '../../lab/resources.js';
import type { LabTopology } from '../../lab/topology.js';

const topology: LabTopology = {
  hosts: [
    {
      name: 'node1',
      workloads: [
        { name: 'web', namespace: 'shop', serviceAccount: 'web', labels: { app: 'web' } },
        { name: 'web', namespace: 'blog', serviceAccount: 'web', isMeshed: false },
        { name: 'db', namespace: 'shop', serviceAccount: 'db', capture: { excludeInboundPorts: [22] } },
      ],
    },
  ],
  services: [{ name: 'db', namespace: 'shop', ports: [{ port: 80, targetPort: 8080 }], selector: { app: 'web' } }],
};
const plan = planLab('cv12ab', topology);

function lookUp(hosts: string, name: string): string[] {
  const lines = hosts.split('\n').map((line) => line.split(' '));
  return lines.filter(([, written]) => written === name).map(([address = '']) => address);
}

describe('the hosts file of a node', () => {
  const [shopWeb, blogWeb] = plan.workloads;

  it('reads a short name in the namespace of the reader', () => {
    assert.deepEqual(lookUp(renderHostsFile(plan, shopWeb ?? null), 'web'), ['198.18.11.2', 'fd00:c0:1::2']);
    assert.deepEqual(lookUp(renderHostsFile(plan, blogWeb ?? null), 'web'), ['198.18.11.3', 'fd00:c0:1::3']);
  });

  it('takes a name of both a service and a workload for the service', () => {
    const hosts = renderHostsFile(plan, null);
    for (const name of ['db', 'db.shop', 'db.shop.svc.cluster.local']) {
      assert.deepEqual(lookUp(hosts, name), ['198.18.200.1', 'fd00:c0:ffff::1'], name);
    }
    assert.deepEqual(lookUp(hosts, 'db.shop.workload'), ['198.18.11.4', 'fd00:c0:1::4']);
  });

  it('names the machines and localhost', () => {
    const hosts = renderHostsFile(plan, null);
    assert.deepEqual(lookUp(hosts, 'node1'), ['198.18.0.11', 'fd00:c0::11']);
    assert.deepEqual(lookUp(hosts, 'localhost'), ['127.0.0.1', '::1']);
  });
});

describe('the documents of a lab', () => {
  const { resources, problems } = parseDocuments(renderResources(plan));

  it('are accepted by the model as they are', () => {
    assert.deepEqual(problems, []);
    assert.deepEqual(
      resources.map((resource) => `${resource.kind} ${resource.metadata.name}`),
      ['Workload web', 'Workload web', 'Workload db', 'Service db'],
    );
  });

  it('register a workload that is not meshed without node and namespace', () => {
    const specs = resources.flatMap((resource) => (resource.kind === 'Workload' ? [resource.spec] : []));
    assert.deepEqual(
      specs.map(({ node, netns }) => [node, netns]),
      [
        ['node1', 'cv12ab-web.shop'],
        [undefined, undefined],
        ['node1', 'cv12ab-db.shop'],
      ],
    );
    assert.deepEqual(specs[2]?.capture, { excludeInboundPorts: [22] });
  });
});
