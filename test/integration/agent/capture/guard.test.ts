import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { type Command, CommandRunner, type CommandResult } from '../../../../agent/capture/firewall/command-runner.js';
import { defaultCaptureSettings } from '../../../../agent/capture/capture-settings.js';
import { detectBackend } from '../../../../agent/capture/firewall/netfilter-backend.js';
import { NamespaceCapture, noExclusions } from '../../../../agent/capture/namespace-capture.js';
import { netnsInode } from '../../../../agent/native/netns.js';
import { capturePorts, lateAcceptPorts } from '../../../../agent/ports.js';
import { CaptureNetwork, type NetworkPlace } from '../../../support/agent/capture-network.js';
import { workloadNamed } from '../../../support/routing/names.js';

/** As on a kernel without xt_socket, as long as `isMissing`. */
class RunnerWithoutSocketMatch extends CommandRunner {
  isMissing = true;

  override async run(command: Command): Promise<CommandResult> {
    if (this.isMissing && command.input?.includes('-m socket') === true)
      return { code: 2, stdout: '', stderr: "Couldn't load match `socket'" };
    return await super.run(command);
  }
}

let network: CaptureNetwork;
before(() => {
  network = new CaptureNetwork();
});
afterEach(() => network.cleanUp());
after(() => network[Symbol.asyncDispose]());

async function captureOf(place: NetworkPlace, runner: CommandRunner): Promise<NamespaceCapture> {
  const latePorts = [1];
  const workload = {
    name: workloadNamed('t/web'),
    netnsPath: place.path,
    addresses: [],
    exclusions: noExclusions,
    latePorts,
  };
  const log = { info: () => {}, warn: () => {}, error: () => {} };
  const capture = new NamespaceCapture({
    runner,
    backend: await detectBackend(runner),
    settings: defaultCaptureSettings,
    log,
    onRepair: () => {},
    workload,
    inode: netnsInode(place.path) ?? 0,
  });
  await capture.apply(workload);
  return capture;
}

/** What comes to each port of the agent in `a`, from inside, from outside, and directly. */
async function answers(): Promise<readonly string[]> {
  const { a, b, x } = network;
  const found: string[] = [];
  for (const family of [4, 6] as const) {
    found.push((await network.dial({ from: a, ip: b.ip[family], port: 8400 })).line);
    found.push((await network.dial({ from: x, ip: a.ip[family], port: 8401 })).line);
    found.push((await network.dial({ from: x, ip: a.ip[family], port: capturePorts.inboundTunnel })).line);
    for (const port of Object.values(lateAcceptPorts))
      found.push((await network.dial({ from: a, ip: a.ip[family], port })).line);
  }
  return found.map((line) => line.split(' ')[0]!);
}

test('a socket on a port of the agent that is not transparent gets no connection', async () => {
  const capture = await captureOf(network.a, new CommandRunner({ maxParallel: 2 }));
  const ports = [...Object.values(capturePorts), ...Object.values(lateAcceptPorts)];
  for (const port of ports) await network.serve({ at: network.a, port, label: 'foreign', isForeign: true });
  assert.deepEqual(new Set(await answers()), new Set(['ECONNREFUSED']));
  assert.equal(capture.status().guardProblem, null);
  await capture.stop();
});

test('without a socket on them connections are refused, and a transparent one gets them', async () => {
  const capture = await captureOf(network.a, new CommandRunner({ maxParallel: 2 }));
  assert.deepEqual(new Set(await answers()), new Set(['ECONNREFUSED']));
  await network.serveCapturePorts(network.a);
  const closed = ['ECONNREFUSED', 'ECONNREFUSED'];
  const served = ['outbound', 'inbound', 'tunnel', ...closed];
  assert.deepEqual(await answers(), [...served, ...served]);
  await capture.stop();
});

test('without the socket match the namespace is captured all the same, says so, and is guarded when there is one', async () => {
  const runner = new RunnerWithoutSocketMatch({ maxParallel: 2 });
  await network.serveCapturePorts(network.a);
  const capture = await captureOf(network.a, runner);
  assert.equal(capture.state, 'captured');
  assert.match(
    capture.status().guardProblem ?? '',
    /other programs can take the agent's ports in it: .*match `socket'/,
  );
  assert.equal((await answers())[0], 'outbound');
  assert.doesNotMatch(await network.sh(network.a, 'iptables-save'), /own-listener/);
  runner.isMissing = false;
  assert.equal(await capture.check({ isFull: true }), 'ok');
  assert.equal(capture.status().guardProblem, null);
  assert.match(await network.sh(network.a, 'iptables-save; ip6tables-save'), /(own-listener[^]*){4}/);
  await capture.stop();
});
