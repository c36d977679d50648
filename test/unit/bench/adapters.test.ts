import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { adapterPlaceholders, type AdapterValues, fillPlaceholders, parseAdapter } from '../../bench/adapter-file.js';
import { maxAdapters, pairPorts, serviceNames, servicePorts, uncapturedPorts } from '../../bench/bench-ports.js';
import { readAdapters } from '../../bench/comparators.js';

const text = `
name: relay
title: a relay
tls: mutual
program: { command: relay }
client: { command: [relay, "{{listenHost}}:{{listenPort}}", "{{targetHost}}:{{targetPort}}"] }
server: { command: [relay, -c, "{{dir}}/relay.conf"], files: { relay.conf: "workers {{workers}}" } }
`;

describe('an adapter', () => {
  it('is a command for each side, with files', () => {
    const adapter = parseAdapter(text, 'relay.yaml');
    assert.equal(adapter.name, 'relay');
    assert.deepEqual(adapter.program.packages, []);
    assert.deepEqual(adapter.server.files, { 'relay.conf': 'workers {{workers}}' });
  });

  it('is refused with every problem and where it stands', () => {
    const wrong = text
      .replace('tls: mutual', 'tls: strong')
      .replace('name: relay', 'name: Relay One')
      .replace('files: { relay.conf', 'files: { ../relay.conf')
      .concat('colour: red\n');
    assert.throws(
      () => parseAdapter(wrong, 'relay.yaml'),
      (error: Error) =>
        ['relay.yaml', 'name: ', 'tls: ', 'server.files', 'colour'].every((part) => error.message.includes(part)),
    );
    assert.throws(() => parseAdapter('name: [', 'broken.yaml'), { code: 'BENCH_ADAPTER', message: /broken\.yaml/ });
  });

  it('is refused when a text names a placeholder that does not exist', () => {
    assert.throws(() => parseAdapter(text.replace('{{workers}}', '{{threads}}'), 'x'), {
      code: 'BENCH_ADAPTER',
      message: /server: nothing is called \{\{threads\}\}/,
    });
  });

  it('is refused when it names a case that does not exist', () => {
    const wrong = `${text}cases: [bulk-3]\n`;
    assert.throws(() => parseAdapter(wrong, 'x'), { code: 'BENCH_ADAPTER', message: /cases\.0/ });
  });

  it('gets every placeholder replaced, each time it stands there', () => {
    const values = Object.fromEntries(adapterPlaceholders.map((name) => [name, `<${name}>`])) as AdapterValues;
    assert.equal(fillPlaceholders('{{dir}}/a {{ca}}{{dir}} {x}', values), '<dir>/a <ca><dir> {x}');
  });
});

describe('the adapters of the repository', () => {
  it('are valid, have names of their own, and one of each kind can be installed', () => {
    const adapters = readAdapters([]);
    const names = adapters.map(({ name }) => name);
    for (const wanted of ['envoy', 'envoy-hbone', 'ghostunnel', 'haproxy', 'haproxy-plain', 'nginx', 'stunnel']) {
      assert.ok(names.includes(wanted), wanted);
    }
    const installable = adapters.filter(({ program }) => program.packages.length > 0);
    assert.deepEqual(new Set(installable.map(({ tls }) => tls)), new Set(['mutual', 'none']));
  });
});

describe('the ports of the lab', () => {
  it('are never given twice', () => {
    const pairs = Array.from({ length: maxAdapters }, (_, index) => index).flatMap((index) =>
      serviceNames.flatMap((service) => Object.values(pairPorts(index, service))),
    );
    const all = [...pairs, ...Object.values(servicePorts).flatMap((ports) => Object.values(ports))];
    assert.equal(new Set(all).size, all.length);
  });

  it('are left alone by the agents, except those of the mesh', () => {
    const { outbound, inbound } = uncapturedPorts(2);
    for (const service of serviceNames) {
      const { captured, plain } = servicePorts[service];
      const { dialled, destination } = pairPorts(1, service);
      assert.ok([plain, dialled, destination].every((port) => outbound.includes(port)));
      assert.ok([plain, destination].every((port) => inbound.includes(port)));
      assert.ok(!outbound.includes(captured) && !inbound.includes(captured));
    }
  });
});
