import assert from 'node:assert/strict';
import process from 'node:process';
import { after, before, describe, test } from 'node:test';
import type { LabNode } from '../../lab/lab-node.js';
import { type Mesh, startMesh } from '../../lab/mesh.js';
import { serveSeenAddress } from '../../support/mesh/attempt.js';
import { documents, meshOf } from '../../support/mesh/rule-world.js';
import { twoHosts } from '../../support/mesh/two-hosts.js';

/**
 * Addresses that no client may use. Applications trust loopback addresses, and an agent that dialled whatever a packet was
 * addressed to would be a relay into the workload.
 */

const port = 8080;
/** What the neighbour dials; its own nat rule sends it to the address under test. */
const alias = '2001:db8:bad::1';
let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts });
  await Promise.all(['server', 'neighbour'].map((name) => serveSeenAddress(mesh.lab.workload(name), port)));
  // All that a mesh can allow.
  await mesh.apply(documents(meshOf('{ mtls: PERMISSIVE, defaultAction: allow, outbound: allow }')));
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** Connects, from a source address of its choice, and writes what the server says of it, or how it failed. */
const client = `
  const [host, port, localAddress] = process.argv.slice(1);
  const socket = require('node:net').connect({ host, port, ...(localAddress ? { localAddress } : {}) });
  socket.on('data', (chunk) => { console.log(String(chunk)); socket.destroy(); });
  socket.on('error', (error) => console.log(error.code));
  socket.on('end', () => console.log('END'));
  socket.setTimeout(3000, () => { console.log('TIMEOUT'); socket.destroy(); });
`;

async function dial(from: LabNode, host: string, source = ''): Promise<string> {
  return (await from.check([process.execPath, '-e', client, host, String(port), source])).trim();
}

describe('a source bound to a loopback address', () => {
  const web = () => mesh.lab.workload('client');

  test('is not believed by a workload of the same host', async () => {
    const to = mesh.lab.workload('neighbour').ipv6;
    assert.equal(await dial(web(), to), `neighbour ${web().ipv6}`);
    assert.equal(await dial(web(), to, '::1'), 'ECONNRESET');
    const record = await mesh
      .agent('node1')
      .waitForRecord('the refusal', ({ reason, direction }) => direction === 'outbound' && reason !== 'OK');
    assert.equal(record.reason, 'NOT_OWN_ADDRESS');
    assert.equal(record.detail, '::1 is no registered address of shop/client');
  });

  test('is not believed by a workload of another host', async () => {
    const to = mesh.lab.workload('server').ipv6;
    assert.equal(await dial(web(), to), `server ${web().ipv6}`);
    assert.equal(await dial(web(), to, '::1'), 'ECONNRESET');
  });
});

describe('a neighbour on the link', () => {
  const server = () => mesh.lab.workload('server');
  const host = () => mesh.lab.host('node2');
  const targets = {
    'the unspecified address': () => '::',
    'the unspecified IPv4 address, mapped': () => '::ffff:0.0.0.0',
    'IPv4 loopback, mapped': () => '::ffff:127.0.0.1',
    'the IPv4 address of the workload, mapped': () => `::ffff:${server().ipv4}`,
    'an address of another machine': () => mesh.lab.host('outside').ipv6,
  };

  /** Sends what the host dials at `alias` to the workload's link, addressed to `to`. */
  async function dialThroughLink(to: string): Promise<string> {
    const [, device = ''] = / dev (\S+)/.exec(await host().check(['ip', '-6', 'route', 'get', server().ipv6])) ?? [];
    const link = await server().check(['ip', '-o', 'link', 'show', 'eth0']);
    const [, mac = ''] = /link\/ether (\S+)/.exec(link) ?? [];
    const routes = [to, alias].map((address) => ['route', 'VERB', `${address}/128`, 'dev', device, 'metric', '1']);
    const neighbour = ['neigh', 'VERB', to, 'lladdr', mac, 'dev', device];
    const ip = async (verb: 'replace' | 'del'): Promise<void> => {
      for (const part of [...routes, neighbour]) {
        await host().check(['ip', '-6', ...part.map((word) => (word === 'VERB' ? verb : word))]);
      }
    };
    const nat = (verb: '-A' | '-D'): Promise<string> =>
      host().check(['ip6tables', '-t', 'nat', verb, 'OUTPUT', '-d', alias, '-j', 'DNAT', '--to-destination', to]);
    await ip('replace');
    await nat('-A');
    try {
      return await dial(host(), alias);
    } finally {
      await nat('-D');
      await ip('del');
    }
  }

  /** Packets that the workload's rules dropped because they were addressed to something else. */
  async function dropped(): Promise<number> {
    const rules = await server().check(['ip6tables', '-t', 'mangle', '-nvxL', 'CULVERT_PREROUTING']);
    const line = rules.split('\n').find((text) => text.includes('not-for-this-workload'));
    return Number(line?.trim().split(/\s+/)[0] ?? 'NaN');
  }

  for (const [name, target] of Object.entries(targets)) {
    test(`reaches nothing through ${name}`, async () => {
      const before = await dropped();
      assert.equal(await dialThroughLink(target()), 'TIMEOUT');
      assert.ok((await dropped()) > before, 'its packets came, and were dropped');
    });
  }

  test('reaches the workload at its own address, so that the way there is open', async () => {
    assert.match(await dialThroughLink(server().ipv6), /^server /);
  });
});
