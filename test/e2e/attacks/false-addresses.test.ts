import assert from 'node:assert/strict';
import process from 'node:process';
import { after, before, describe, test } from 'node:test';
import type { LabNode } from '../../lab/lab-node.js';
import { type Mesh, startMesh } from '../../lab/mesh.js';
import { waitUntil } from '../../lab/wait-until.js';
import type { FlowsAnswer } from '../../../controller/api/api-types.js';
import { hostPorts } from '../../../agent/ports.js';
import { dialOnAndOn, markedDial } from '../../support/agent/marked-dial.js';
import { serveSeenAddress } from '../../support/mesh/attempt.js';
import { HeldConnection, startEcho } from '../../support/mesh/echo-traffic.js';
import { loggedIn } from '../../support/mesh/log-lines.js';
import { documents, meshOf } from '../../support/mesh/rule-world.js';
import { twoHosts } from '../../support/mesh/two-hosts.js';

/**
 * Addresses that no client may use. Applications trust loopback addresses, and an agent that dialled whatever a packet was
 * addressed to would be a relay into the workload.
 */

const port = 8080;
/** What the neighbour dials; its own nat rule sends it to the address under test. */
const alias = '2001:db8:bad::1';
/** The user of the host whose programs may probe. */
const prober = 65_534;
let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts, agentArgs: ['--host-probes', `uid:${prober}`] });
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

describe('a program of the host', () => {
  const server = () => mesh.lab.workload('server');
  const host = () => mesh.lab.host('node2');

  before(async () => {
    await mesh.apply(documents(meshOf('{ mtls: STRICT, defaultAction: deny, outbound: deny }')));
  });

  async function dialAs(uid: number, from: LabNode, ip: string, to = port): Promise<string> {
    const as = ['setpriv', `--reuid=${uid}`, '--clear-groups', 'perl', '-e', markedDial, ip, String(to), '0'];
    return (await from.check(as)).trim();
  }

  test('that the settings do not name is judged like any other, as root too', async () => {
    for (const ip of [server().ipv4, server().ipv6])
      assert.match(await dialAs(0, host(), ip), /^reset: Connection reset/);
    const record = await mesh
      .agent('node2')
      .waitForRecord('the refusal', (line) => line.destinationWorkload === 'shop/server' && line.reason !== 'OK');
    assert.equal(record.path, 'none');
    assert.equal(record.reason, 'SOURCE_UNKNOWN');
  });

  test('that they name reaches workloads of its own host, and each connection has a record, a metric and an answer', async () => {
    for (const ip of [server().ipv4, server().ipv6]) {
      assert.match(await dialAs(prober, host(), ip), /^server /);
      const record = await mesh
        .agent('node2')
        .waitForRecord('the probe', (line) => line.path === 'probe' && line.requested?.includes(ip) === true);
      assert.deepEqual([record.reason, record.direction, record.rule ?? null], ['OK', 'inbound', null]);
    }
    const counted = { path: 'probe', reason: 'OK', destination_workload: 'shop/server' };
    await waitUntil('the metric', async () =>
      (await mesh.agent('node2').metric('culvert_connections_closed_total', counted)) === 2 ? true : undefined,
    );
    await waitUntil('the flow record', async () => {
      const { flows } = (await mesh.controller.api('/v1/flows?namespace=shop')) as FlowsAnswer;
      return (
        flows.some(({ probe, destination }) => probe === true && destination.workload === 'shop/server') || undefined
      );
    });
    const why = await mesh.controller.culvert(['why', mesh.lab.host('outside').ipv4, `shop/server:${port}`]);
    assert.match(why.stdout, /Programs on node2 that its agent's hostProbes names \(uid:65534\) pass without a rule/);
    assert.match(await dialAs(prober, mesh.lab.host('node1'), server().ipv4), /^reset: /, 'of another host');
    assert.match(await dialAs(prober, mesh.lab.host('outside'), server().ipv4), /^reset: /, 'of no host');
    assert.match(await dialAs(prober, mesh.lab.workload('spare'), server().ipv4), /^reset: /, 'of a workload');
  });

  test('gets nothing from the listener for probes itself', async () => {
    for (const ip of ['127.0.0.1', '::1'])
      assert.match(await dialAs(prober, host(), ip, hostPorts.probes), /^reset: Connection reset/);
    assert.match(await dialAs(0, mesh.lab.host('outside'), host().ipv4, hostPorts.probes), /^refused: /);
  });

  test('reaches workloads all the while that another agent takes over, also when the one before has closed', async () => {
    await mesh.apply(documents(meshOf('{ mtls: STRICT, defaultAction: allow, outbound: allow }')));
    await using echo = await startEcho(server());
    const held = await HeldConnection.open(mesh.lab.workload('client'), { ip: server().ipv4, port: echo.port });
    const node2 = mesh.agent('node2');
    const old = node2.process;
    // One after the other: some come before the new agent serves the workload, and some while the old one closes its listeners.
    const as = ['setpriv', `--reuid=${prober}`, '--clear-groups', 'perl', '-e'];
    await using probing = await host().spawn([...as, dialOnAndOn, server().ipv4, String(port)]);
    const probed = async (more: number): Promise<void> => {
      const upTo = probing.lines.length + more;
      await waitUntil('more probes', () => probing.lines.length >= upTo || undefined);
    };
    await probed(20);
    await node2.start();
    await waitUntil('it took over', () => loggedIn(node2.logFile, 'this agent took over')[0], 30_000);
    // Others would share the probes with those of the old one, and what waits there is lost when it closes them.
    const listening = ['ss', '-Hltn', `sport = :${hostPorts.probes}`];
    const listeners = async (): Promise<number> => (await host().check(listening)).trim().split('\n').length;
    assert.equal(await listeners(), 2, 'both agents have the same two sockets');
    await probed(100);
    assert.equal(old.hasExited, false);
    await held.exchange();
    await held.close();
    assert.deepEqual(await old.exited, { code: 0, signal: null });
    await probed(20);
    await probing.stop();
    const refused = probing.lines.filter((line) => !line.startsWith('server '));
    const records = node2.records().filter(({ direction, reason }) => direction === 'inbound' && reason !== 'OK');
    assert.deepEqual(refused, [], `at the agents: ${JSON.stringify(records)}`);
  });
});

test('a registered address that the namespace lacks is said by apply --wait, check and status', async () => {
  const culvert = (args: readonly string[], input?: string) => mesh.controller.culvert(args, input);
  const right = (await culvert(['get', 'workload', 'spare', '-n', 'shop', '-o', 'yaml'])).stdout;
  const { ipv4 } = mesh.lab.workload('spare');
  const wrong = ipv4.replace(/\d+$/, '250');
  const problem = `its namespace does not have the registered address ${wrong}`;
  const applied = await culvert(['apply', '-f', '-', '--wait', '20s'], right.replace(ipv4, wrong));
  assert.equal(applied.code, 0, applied.stderr);
  assert.ok(applied.stderr.includes(`warning: captured, with a problem: shop/spare on node`), applied.stderr);
  assert.ok(applied.stderr.includes(problem), applied.stderr);
  const [check, status] = [await culvert(['check']), await culvert(['status'])];
  assert.equal(check.code, 1);
  assert.ok(check.stdout.includes(problem), check.stdout);
  assert.ok(status.stdout.includes(problem), status.stdout);
  assert.equal((await culvert(['apply', '-f', '-', '--wait', '20s'], right)).code, 0);
  await waitUntil('the check that passes again', async () =>
    (await culvert(['check'])).stdout.includes(problem) ? undefined : true,
  );
});
