import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import type { TokenAnswer, TokenItem } from '../../controller/api/api-types.js';
import type { CommandResult } from '../lab/command.js';
import { labHttp } from '../lab/lab-http.js';
import { type Mesh, prepareMesh } from '../lab/mesh.js';
import { parseMetrics } from '../lab/metric-samples.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { twoHosts } from '../support/mesh/two-hosts.js';

let mesh: Mesh;

before(async () => {
  mesh = await prepareMesh({ topology: twoHosts });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

async function newToken(node: string, ...options: readonly string[]): Promise<TokenAnswer> {
  return (await mesh.controller.culvertJson(['token', 'create', '--node', node, ...options])) as TokenAnswer;
}

function newDirectory(name: string): string {
  return mkdtempSync(path.join(mesh.lab.tempDir, `${name}-`));
}

/** Still hexadecimal, but another value. */
function reversed(hex: string): string {
  return hex.split('').reverse().join('');
}

/** `culvert-agent join` on a host of the lab. */
async function join(node: string, token: string, stateDir = newDirectory('join')): Promise<CommandResult> {
  const tokenFile = path.join(newDirectory('token'), 'token');
  writeFileSync(tokenFile, `${token}\n`, { mode: 0o600 });
  const where = ['--node', node, '--controller', mesh.controller.url, '--state-dir', stateDir];
  return mesh.lab
    .host(node)
    .exec([...programs.agent, 'join', ...where, '--token-file', tokenFile], { timeoutMs: 30_000 });
}

async function controllerMetric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
  const { node, url } = mesh.controller;
  const port = Number(new URL(url).port);
  const { body } = await labHttp({ from: node, ip: node.ipv4, port, path: '/metrics', isTls: true });
  return parseMetrics(body)
    .filter((sample) => sample.name === `culvert_controller_${name}`)
    .filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
    .reduce((sum, sample) => sum + sample.value, 0);
}

function controllerLog(): Record<string, unknown>[] {
  return readFileSync(mesh.controller.logFile, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** One line, a code in brackets, exit code 1, and nothing of the secret. */
function assertRefused(result: CommandResult, code: string, token = '', exitCode = 1): void {
  assert.equal(result.code, exitCode, result.stderr);
  assert.equal(result.stdout, '');
  assert.match(result.stderr, new RegExp(`^culvert-agent: .+ \\[${code}\\]\\n$`));
  const [, , secret] = token.split('.');
  if (secret !== undefined) assert.ok(!result.stderr.includes(secret), 'the secret is in the error');
}

/** Refused with this code by the controller, which logs and counts it by that reason. */
async function expectRefusedJoin(code: string, attempt: () => Promise<CommandResult>, token: string): Promise<void> {
  const labels = { reason: code };
  const [refused, joined] = [
    await controllerMetric('refused_joins_total', labels),
    await controllerMetric('joins_total'),
  ];
  assertRefused(await attempt(), code, token);
  assert.equal(await controllerMetric('refused_joins_total', labels), refused + 1);
  assert.equal(await controllerMetric('joins_total'), joined);
  assert.ok(controllerLog().some((line) => line['code'] === code && line['msg'] === 'refused a join'));
}

describe('a join is refused', () => {
  test('with a text that is no token, before anything is sent', async () => {
    const asked = await controllerMetric('requests_total');
    assertRefused(await join('node1', 'culvert1.made-up'), 'TOKEN_INVALID', '', 64);
    // The only request that came meanwhile is the one for the metrics.
    assert.ok((await controllerMetric('requests_total')) - asked <= 1);
  });

  test('with a token of which this controller knows nothing', async () => {
    const { token } = await newToken('node1');
    const [version, , secret, hash] = token.split('.');
    const unknown = [version, '0'.repeat(12), secret, hash].join('.');
    await expectRefusedJoin('TOKEN_UNKNOWN', () => join('node1', unknown), unknown);
  });

  test('with a token whose secret is wrong', async () => {
    const { token } = await newToken('node1');
    const [version, id, secret = '', hash] = token.split('.');
    const wrong = [version, id, reversed(secret), hash].join('.');
    await expectRefusedJoin('TOKEN_UNKNOWN', () => join('node1', wrong), wrong);
  });

  test('when the controller has another CA than the token names; the secret is never sent', async () => {
    const { token } = await newToken('node1');
    const [version, id, secret, hash = ''] = token.split('.');
    const pinned = [version, id, secret, reversed(hash)].join('.');
    const asked = await controllerMetric('requests_total', { route: '/v1/join' });
    assertRefused(await join('node1', pinned), 'CA_MISMATCH', pinned);
    assert.equal(await controllerMetric('requests_total', { route: '/v1/join' }), asked);
    assert.equal((await join('node1', token)).code, 0, 'the token itself was good all the time');
  });

  test('with a token that has expired', async () => {
    const { token, expiresAtMs } = await newToken('node1', '--ttl', '1s');
    await waitUntil('the token expires', () => (Date.now() > expiresAtMs ? true : undefined));
    await expectRefusedJoin('TOKEN_EXPIRED', () => join('node1', token), token);
  });

  test('with the token of another node, and that node can still use it, once', async () => {
    const { token } = await newToken('node2');
    await expectRefusedJoin('TOKEN_WRONG_NODE', () => join('node1', token), token);
    const joined = await controllerMetric('joins_total');
    const { code, stdout } = await join('node2', token);
    assert.deepEqual([code, stdout], [0, 'joined: node node2, trust domain culvert.local\n']);
    assert.equal(await controllerMetric('joins_total'), joined + 1);
    await expectRefusedJoin('TOKEN_USED', () => join('node2', token), token);
  });

  test('when no controller answers at that address', async () => {
    const { token } = await newToken('node1');
    const where = ['--node', 'node1', '--controller', `https://${mesh.lab.host('node2').ipv4}:1`];
    const argv = [...programs.agent, 'join', ...where, '--state-dir', newDirectory('join'), '--token', token];
    const result = await mesh.lab.host('node1').exec(argv, { timeoutMs: 30_000 });
    assertRefused(result, 'CONTROLLER_UNREACHABLE', token);
  });
});

describe('an agent that has joined', () => {
  before(async () => {
    await mesh.startAgents();
  });

  test('starts again from its state, with a token that is used up', async () => {
    const node1 = mesh.agent('node1');
    const joined = await controllerMetric('joins_total');
    await node1.stop();
    await node1.start();
    await node1.waitReady();
    assert.equal(await controllerMetric('joins_total'), joined);
  });

  test('keeps its membership when a second join is refused', async () => {
    const node1 = mesh.agent('node1');
    const credentials = path.join(node1.stateDir, 'credentials.json');
    const before = readFileSync(credentials, 'utf8');
    const { token } = await newToken('node2');
    assertRefused(await join('node1', token, node1.stateDir), 'TOKEN_WRONG_NODE', token);
    assert.equal(readFileSync(credentials, 'utf8'), before);
  });

  test('does not run under another name than its state has', async () => {
    const where = ['--node', 'node3', '--controller', mesh.controller.url, '--state-dir', mesh.agent('node2').stateDir];
    const elsewhere = [
      '--admin-address',
      '127.0.0.1:0',
      '--metrics-address',
      '127.0.0.1:0',
      '--health-address',
      '127.0.0.1:0',
    ];
    const { code, stderr } = await mesh.lab
      .host('node2')
      .exec([...programs.agent, 'run', '--take-over', ...where, ...elsewhere], { timeoutMs: 30_000 });
    assert.equal(code, 1);
    assert.match(stderr, /^culvert-agent: .*belongs to node "node2".* \[NODE_MISMATCH\]$/m);
  });

  const rogue = async (...args: readonly string[]): Promise<unknown> => {
    const script = fileURLToPath(new URL('../support/mesh/rogue-agent.js', import.meta.url));
    const node1 = mesh.agent('node1');
    const argv = [process.execPath, script, node1.stateDir, ...args];
    return JSON.parse(await node1.node.check(argv, { timeoutMs: 30_000 }));
  };

  for (const subject of [
    'culvert.v1.status.node2',
    'culvert.v1.sign.node2',
    '$KV.culvert_rules.current',
    '$KV.culvert_registry.workload.shop.server',
  ]) {
    test(`cannot publish ${subject}: NATS refuses it, the controller logs and counts it`, async () => {
      const before = await controllerMetric('nats_refused_total', { operation: 'publish' });
      assert.deepEqual(await rogue('publish', subject), [{ operation: 'publish', subject }]);
      await waitUntil('the controller counts it', async () =>
        (await controllerMetric('nats_refused_total', { operation: 'publish' })) > before ? true : undefined,
      );
      assert.ok(controllerLog().some((line) => line['subject'] === subject && line['operation'] === 'publish'));
    });
  }

  test('gets no certificate of an identity that is not on its node; that is logged and counted', async () => {
    const identity = 'spiffe://culvert.local/ns/shop/sa/server';
    const labels = { reason: 'IDENTITY_NOT_ON_NODE' };
    const before = await controllerMetric('refused_certificates_total', labels);
    const [answer] = (await rogue('sign', identity)) as { identity: string; error?: { code: string; hint: string } }[];
    assert.equal(answer?.error?.code, 'IDENTITY_NOT_ON_NODE');
    assert.equal(await controllerMetric('refused_certificates_total', labels), before + 1);
    assert.ok(controllerLog().some((line) => line['identity'] === identity && line['node'] === 'node1'));
    const own = 'spiffe://culvert.local/ns/shop/sa/client';
    const [good] = (await rogue('sign', own)) as { chainPem?: string }[];
    assert.match(good?.chainPem ?? '', /BEGIN CERTIFICATE/);
  });
});

describe('what is missing on a host is named in one line that says what to install', () => {
  const run = (argv: readonly string[], prefix: readonly string[]): Promise<CommandResult> =>
    mesh.lab.host('node1').exec([...prefix, ...argv], { timeoutMs: 30_000 });
  const agent = (): string[] => [...programs.agent, 'run', '--node', 'node1', '--state-dir', newDirectory('state')];

  test('root', async () => {
    // As another user it could not even start a Node that is in the home of root.
    const { code, stderr } = await run(agent(), ['unshare', '--user']);
    assert.equal(code, 1);
    assert.match(stderr, /^culvert-agent: .*root.*start it with sudo, or as the systemd unit.* \[NOT_ROOT\]\n$/);
  });

  // Programs of a lab's namespace see mounts of their own.
  const without = ['sh', '-e', '-c', 'mount -t tmpfs tmpfs /usr/sbin && exec "$0" "$@"'];

  test('iptables', async () => {
    const { code, stderr } = await run(agent(), without);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^culvert-agent: iptables, ip6tables\b.* is missing \(install it with: apt-get install .*iptables.*\) \[TOOL_MISSING\]\n$/,
    );
  });

  test('nats-server', async () => {
    const controller = [...programs.controller, 'run', '--state-dir', newDirectory('state'), '--listen', '127.0.0.1:0'];
    const { code, stderr } = await run(controller, without);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^culvert-controller: .*nats-server.*apt-get install nats-server.* \[NATS_SERVER_MISSING\]\n$/,
    );
  });
});

test('a join onto a read-only file system spends no token, and every line says that the directory cannot be written', async () => {
  const { id, token } = await newToken('node1');
  const stateDir = path.join(newDirectory('readonly'), 'a', 'b');
  const tokenFile = path.join(newDirectory('token'), 'token');
  writeFileSync(tokenFile, `${token}\n`, { mode: 0o600 });
  const where = ['--node', 'node1', '--controller', mesh.controller.url, '--state-dir', stateDir];
  const free = ['admin', 'metrics', 'health'].flatMap((endpoint) => [`--${endpoint}-address`, '127.0.0.1:0']);
  const argv = [...programs.agent, 'run', ...where, '--token-file', tokenFile, ...free];
  const readOnly = `mount -t tmpfs -o ro none ${path.dirname(path.dirname(stateDir))} && exec "$@"`;
  const agent = await mesh.lab.host('node1').spawn(['unshare', '--mount', 'sh', '-ec', readOnly, 'sh', ...argv]);
  const failures = (): string[] => agent.lines.filter((line) => line.includes('the host could not join the mesh'));
  await waitUntil('three attempts', () => (failures().length >= 3 ? true : undefined), 30_000);
  await agent.stop('SIGTERM', 15_000);
  const problems = agent.lines.filter((line) => line.includes('"level":"error"'));
  for (const line of problems) assert.match(line, /cannot write .*EROFS.*mount the file system writable/);
  assert.equal(new Set(problems.map((line) => (JSON.parse(line) as { msg: string }).msg)).size, 2, problems.join('\n'));
  const listed = (await mesh.controller.culvertJson(['token', 'list'])) as TokenItem[];
  assert.equal(listed.find((item) => item.id === id)?.state, 'usable');
  assert.equal((await mesh.controller.culvert(['token', 'revoke', id])).code, 0);
  assertRefused(await join('node1', token), 'TOKEN_REVOKED', token);
});
