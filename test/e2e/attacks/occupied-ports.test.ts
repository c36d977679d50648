import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { capturePorts, hostPorts, ownTrafficMark } from '../../../agent/ports.js';
import type { LabNode, LabWorkload } from '../../lab/lab-node.js';
import { labHttp } from '../../lab/lab-http.js';
import type { LabProcess } from '../../lab/lab-process.js';
import { type Mesh, prepareMesh } from '../../lab/mesh.js';
import { patientMs } from '../../lab/patience.js';
import { waitUntil } from '../../lab/wait-until.js';
import { markedDial } from '../../support/agent/marked-dial.js';
import { attempt, serveSeenAddress } from '../../support/mesh/attempt.js';
import { documents, meshOf } from '../../support/mesh/rule-world.js';
import { twoHosts } from '../../support/mesh/two-hosts.js';

/** Programs of a workload on the ports of the agent. None of them has a capability, except for the one with the mark. */

const port = 8080;
const ports = Object.values(capturePorts);
let mesh: Mesh;

/** Says which of the addresses it got, and serves what comes there. SO_REUSEADDR and SO_REUSEPORT help it. */
const squatter = `
  use strict;
  use Socket qw(:all);
  $| = 1;
  my @held;
  for (@ARGV) {
    my ($host, $port) = m{^(.*)/(\\d+)$};
    my $is6 = $host =~ /:/;
    socket(my $socket, $is6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die $!;
    setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) or die $!;
    setsockopt($socket, SOL_SOCKET, 15, 1) or die $!;
    my $at = $is6 ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $host)) : pack_sockaddr_in($port, inet_aton($host));
    if (bind($socket, $at) && listen($socket, 64)) { push @held, $socket; print "has $_\\n" }
    else { print "refused $_: $!\\n" }
  }
  print "ready\\n";
  while (1) {
    my $ready = '';
    vec($ready, fileno($_), 1) = 1 for @held;
    select($ready, undef, undef, undef);
    for my $socket (@held) {
      next unless vec($ready, fileno($socket), 1) && accept(my $client, $socket);
      print "served\\n";
      syswrite($client, "stolen\\n");
      close($client);
    }
  }
`;

const unprivileged = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
/** Not all that root in a container has by default, and what matters here: neither CAP_NET_ADMIN nor CAP_SYS_ADMIN. */
const netRaw = ['setpriv', '--bounding-set=-all,+net_raw,+setuid,+setgid,+setpcap', '--inh-caps=-all'];
const rootWithoutCapabilities = ['setpriv', '--bounding-set=-all', '--inh-caps=-all'];

async function occupy(at: LabNode, as: readonly string[], addresses: readonly string[]): Promise<LabProcess> {
  const program = await at.spawn([...as, 'perl', '-e', squatter, ...addresses]);
  await program.waitForLine(/^ready$/);
  return program;
}

function served(program: LabProcess): number {
  return program.lines.filter((line) => line === 'served').length;
}

async function pending(host: string): Promise<ReadonlyMap<string, string>> {
  const from = mesh.agent(host).node;
  const { body } = await labHttp({ from, ip: '127.0.0.1', port: hostPorts.health, path: '/readyz' });
  const ready = JSON.parse(body) as { pending: readonly { name: string; detail: string }[] };
  return new Map(ready.pending.map(({ name, detail }) => [name, detail]));
}

async function alarmFor(workload: LabWorkload): Promise<string> {
  return await waitUntil('the alarm', async () => {
    const detail = (await pending(workload.host)).get(`listener/${workload.meshName}`) ?? '';
    // Whose it is is known at once, and which process after a search.
    return / pid \d+ .* has it/.test(detail) ? detail : undefined;
  });
}

async function outcomes(from: LabNode, to: LabNode, count: number): Promise<readonly string[]> {
  const found = new Set<string>();
  for (let i = 0; i < count; i++) found.add((await attempt(from, to.ipv4, port)).outcome);
  return [...found];
}

describe('a program that takes a port of the agent', { timeout: patientMs(240_000) }, () => {
  const workload = (name: string): LabWorkload => mesh.lab.workload(name);
  const outside = (): LabNode => mesh.lab.host('outside');

  before(async () => {
    mesh = await prepareMesh({
      topology: twoHosts,
      documents: documents(meshOf('{ mtls: STRICT, defaultAction: allow, outbound: deny }')),
    });
    await Promise.all(['client', 'neighbour', 'server'].map((name) => serveSeenAddress(workload(name), port)));
    await serveSeenAddress(outside(), port);
    await mesh.agent('node2').fetchToken();
    await mesh.agent('node2').start();
    await mesh.agent('node2').waitReady();
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
  });

  test('before the agent starts does not keep its workload out of the mesh, and is named', async () => {
    await using client = await occupy(workload('client'), unprivileged, [`::/${capturePorts.outbound}`]);
    await using neighbour = await occupy(workload('neighbour'), rootWithoutCapabilities, [
      `::/${capturePorts.inboundTunnel}`,
    ]);
    await mesh.agent('node1').fetchToken();
    await mesh.agent('node1').start();
    const alarms = [await alarmFor(workload('client')), await alarmFor(workload('neighbour'))];
    assert.match(alarms[0]!, /port 15001: .*EADDRINUSE: pid \d+ \(perl\) of uid 65534 has it/);
    assert.match(alarms[1]!, /port 15008: .*EADDRINUSE: pid \d+ \(perl\) of uid 0 has it/);
    assert.equal(await mesh.agent('node1').metric('culvert_workloads_without_listeners'), 2);
    await waitUntil('the failed check', async () => {
      const { code, stdout } = await mesh.controller.culvert(['check']);
      return code !== 0 && /shop\/client on node1: no worker listens.*uid 65534/.test(stdout) ? true : undefined;
    });

    const registered = await mesh.controller.culvert(['get', 'workload', 'client', '-n', 'shop', '-o', 'yaml']);
    const applied = await mesh.controller.culvert(['apply', '-f', '-', '--wait', '1s'], registered.stdout);
    assert.equal(applied.code, 1, applied.stdout);
    assert.doesNotMatch(applied.stdout, /enforced by/);
    assert.match(
      applied.stderr,
      /not captured and served .*: shop\/client on node1 \(no worker listens in its namespace/,
    );

    assert.deepEqual(await outcomes(workload('client'), outside(), 5), ['ECONNREFUSED']);
    assert.deepEqual(await outcomes(workload('client'), workload('server'), 5), ['ECONNREFUSED']);
    const tunnel = await attempt(outside(), workload('neighbour').ipv4, capturePorts.inboundTunnel);
    assert.equal(tunnel.outcome, 'ECONNREFUSED');
    assert.deepEqual([served(client), served(neighbour)], [0, 0]);

    await client.stop('SIGKILL');
    await neighbour.stop('SIGKILL');
    await mesh.agent('node1').waitReady();
    assert.equal(await mesh.agent('node1').metric('culvert_workloads_without_listeners'), 0);
    assert.deepEqual(await outcomes(workload('client'), workload('server'), 3), ['OK']);
    assert.deepEqual(await outcomes(workload('client'), outside(), 3), ['ECONNRESET']);
  });

  test('and one with CAP_NET_RAW that sets the mark of the agent does not leave the mesh', async () => {
    const { ipv4, ipv6 } = outside();
    for (const ip of [ipv4, ipv6]) {
      const marked = [...netRaw, 'perl', '-e', markedDial, ip, String(port), String(ownTrafficMark)];
      const { stdout } = await workload('client').exec(marked);
      assert.match(stdout, /^refused: Connection refused/);
    }
    const status = await mesh.controller.culvert(['check']);
    assert.doesNotMatch(status.stdout, /protects less/);
  });

  test('while the agent is away gets no connection', async () => {
    const node2 = mesh.agent('node2');
    await node2.stop('SIGKILL');
    const addresses = ports.map((own) => `::/${own}`);
    await using program = await occupy(workload('server'), unprivileged, addresses);
    assert.deepEqual(
      program.lines.filter((line) => line.startsWith('has')),
      addresses.map((address) => `has ${address}`),
    );
    assert.deepEqual(await outcomes(outside(), workload('server'), 10), ['ECONNREFUSED']);
    assert.deepEqual(await outcomes(workload('server'), outside(), 10), ['ECONNREFUSED']);
    const tunnel = await attempt(outside(), workload('server').ipv4, capturePorts.inboundTunnel);
    assert.equal(tunnel.outcome, 'ECONNREFUSED');
    assert.equal(served(program), 0);
    await node2.start();
    assert.match(await alarmFor(workload('server')), /of uid 65534 has it/);
    assert.deepEqual(await outcomes(outside(), workload('server'), 5), ['ECONNREFUSED']);
    await program.stop('SIGKILL');
    await node2.waitReady();
    assert.deepEqual(await outcomes(workload('spare'), workload('server'), 3), ['OK']);
  });

  test('with SO_REUSEPORT, as the user of the agent and without capabilities, cannot share it', async () => {
    const { ipv4, ipv6 } = workload('server');
    const hosts = ['::', '0.0.0.0', '127.0.0.1', '::1', ipv4, ipv6];
    const addresses = ports.flatMap((own) => hosts.map((host) => `${host}/${own}`));
    await using program = await occupy(workload('server'), rootWithoutCapabilities, addresses);
    assert.deepEqual(await outcomes(outside(), workload('server'), 40), ['ECONNRESET']);
    assert.deepEqual(await outcomes(workload('server'), outside(), 40), ['ECONNRESET']);
    assert.equal(served(program), 0);
    assert.deepEqual(
      program.lines.filter((line) => line.startsWith('has')),
      [],
    );
  });
});
