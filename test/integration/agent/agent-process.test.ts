import assert from 'node:assert/strict';
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { StatusAnswer } from '../../../controller/api/api-types.js';
import { createLab } from '../../lab/lab.js';
import { programs } from '../../lab/programs.js';
import { waitUntil } from '../../lab/wait-until.js';
import { AgentProcess } from '../../support/agent/agent-process-fixture.js';

test('an agent that was killed refuses, and serves from disk again while the controller is away', async () => {
  await using mesh = await AgentProcess.prepare();
  await mesh.startAgent();
  await mesh.waitReady();
  assert.equal(await mesh.ping(), 'pong');
  await mesh.killController();
  await mesh.agent.stop('SIGKILL', 1000);
  assert.equal(await mesh.ping(), 'ECONNREFUSED', 'fail closed');
  await mesh.startAgent();
  assert.match(await mesh.waitReady(), /"nats"/, 'NATS is told as degraded');
  assert.equal(await mesh.ping(), 'pong');
});

test('an agent that may open few files says so in its log, in /readyz and to the controller, and how many it needs', async () => {
  await using mesh = await AgentProcess.prepare();
  await mesh.startAgent('run', [], ['sh', '-c', 'ulimit -n 1024 && exec "$0" "$@"']);
  assert.match(
    await mesh.waitReady(),
    /"name": "files",\s+"detail": "it may open 1024 files, which is enough for 256 conn/,
  );
  const said = await waitUntil('the controller knows', async () => {
    const { agents } = (await mesh.api('GET', '/v1/status')) as StatusAnswer;
    return agents[0]?.heartbeat?.weaknesses;
  });
  assert.match(said.join('\n'), /it may open 1024 files/);
  const logged = mesh.logged('few files may be open');
  assert.deepEqual(
    logged.map(({ level }) => level),
    ['warn'],
  );
  assert.match(String(logged[0]?.['hint']), /raise the limit of open files to 40512 or more: LimitNOFILE=/);
  assert.equal(await mesh.ping(), 'pong');
});

test('damaged state files are moved aside, and nothing passes until fresh rules arrive', async () => {
  await using mesh = await AgentProcess.prepare();
  await mesh.startAgent();
  await mesh.waitReady();
  await mesh.agent.stop();
  await mesh.killController();
  for (const name of ['state.json', 'registry.state']) {
    const file = path.join(mesh.stateDir, name);
    // At its beginning: a torn change at the end of the registry is no damage.
    writeFileSync(file, readFileSync(file).subarray(3));
  }
  await mesh.startAgent();
  const found = await waitUntil('the damage is logged', () => mesh.logged('was moved aside')[1], 30_000);
  assert.equal(found['level'], 'error');
  for (const file of ['state.json', 'registry.state']) {
    assert.ok(readdirSync(mesh.stateDir).some((name) => name.startsWith(`${file}.corrupt-`)));
  }
  assert.equal(await mesh.ping(), 'ECONNREFUSED');
  const ready = await waitUntil('it says what is pending', async () => {
    const { status, body } = await mesh.get(15021, '/readyz');
    return status === 503 ? body : undefined;
  });
  for (const task of ['nats', 'rules', 'registry']) assert.match(ready, new RegExp(`"name": "${task}"`));
  await mesh.startController();
  await mesh.waitReady();
  assert.equal(await mesh.ping(), 'pong');
});

test('capture stays after a clean stop, and remove leaves everything as it was found', async () => {
  await using mesh = await AgentProcess.prepare();
  const before = await Promise.all([mesh.host, mesh.web, mesh.db].map((node) => mesh.netfilter(node)));
  await mesh.startAgent();
  await mesh.waitReady();
  const exit = await mesh.agent.stop('SIGHUP', 15_000);
  assert.deepEqual(exit, { code: 0, signal: null });
  assert.equal(await mesh.hasRules(mesh.web), true);
  assert.equal(await mesh.ping(), 'ECONNREFUSED');
  const { code, stderr } = await mesh.command('remove', '--state-dir', mesh.stateDir);
  assert.equal(code, 0, stderr);
  assert.deepEqual(await Promise.all([mesh.host, mesh.web, mesh.db].map((node) => mesh.netfilter(node))), before);
  assert.equal(await mesh.ping(), 'pong', 'directly');
});

test('a workload that is no longer registered is released, also when that happened while the agent was away', async () => {
  await using mesh = await AgentProcess.prepare();
  const before = await mesh.netfilter(mesh.web);
  await mesh.startAgent();
  await mesh.waitReady();
  await mesh.agent.stop();
  await mesh.api('DELETE', '/v1/resources/Workload/shop/web');
  await mesh.startAgent();
  // The rules are removed first, then the tables, unless others use them.
  const isAsFound = async () => ((await mesh.netfilter(mesh.web)) === before ? true : undefined);
  await waitUntil('web is released and as it was found', isAsFound, 45_000);
  assert.equal(await mesh.hasRules(mesh.db), true);
});

test('a supervised agent comes back by itself, with fail mode closed never unprotected', async () => {
  await using mesh = await AgentProcess.prepare();
  await mesh.startAgent('supervise');
  await mesh.waitReady();
  const first = Number(mesh.logged('agent started').at(-1)?.['pid']);
  process.kill(first, 'SIGKILL');
  assert.equal(await mesh.hasRules(mesh.web), true);
  await waitUntil('a new agent', () =>
    Number(mesh.logged('agent started').at(-1)?.['pid']) === first ? undefined : true,
  );
  await mesh.waitReady();
  assert.equal(await mesh.ping(), 'pong');
  assert.equal(mesh.logged('FAIL OPEN').length, 0);
  assert.deepEqual(await mesh.agent.stop('SIGTERM', 30_000), { code: 0, signal: null });
});

test('with fail mode open the capture goes when the agent stays away, and comes back with it', async () => {
  await using mesh = await AgentProcess.prepare();
  await mesh.startAgent('supervise', ['--fail-mode', 'open']);
  await mesh.waitReady();
  const credentials = path.join(mesh.stateDir, 'credentials.json');
  const good = readFileSync(credentials, 'utf8');
  await mesh.killController();
  writeFileSync(credentials, 'damaged');
  process.kill(Number(mesh.logged('agent started').at(-1)?.['pid']), 'SIGKILL');
  assert.deepEqual(mesh.logged('failMode: open has no effect'), []);
  await waitUntil('capture is out', async () => ((await mesh.hasRules(mesh.web)) ? undefined : true), 30_000);
  await waitUntil('the opening is logged', () => mesh.logged('FAIL OPEN')[0]);
  assert.equal(await mesh.ping(), 'pong', 'directly');
  await waitUntil('the new agent waits to join', () => mesh.logged('could not join')[0], 30_000);
  writeFileSync(credentials, good);
  process.kill(Number(mesh.logged('agent started').at(-1)?.['pid']), 'SIGKILL');
  await waitUntil('capture is back', async () => ((await mesh.hasRules(mesh.web)) ? true : undefined), 45_000);
  await mesh.waitReady();
  assert.equal(await mesh.ping(), 'pong');
});

test('fail mode open without a supervisor is a warning at the start, and a degradation', async () => {
  await using mesh = await AgentProcess.prepare();
  await mesh.startAgent('run', ['--fail-mode', 'open']);
  assert.match(await mesh.waitReady(), /"name": "fail-mode",\s*"detail": "failMode: open has no effect without/);
  assert.deepEqual(
    mesh.logged('failMode: open has no effect').map(({ level }) => level),
    ['warn'],
  );
});

test('a command line that is wrong ends with 64 and says what to do', async () => {
  await using lab = await createLab({ hosts: [{ name: 'node1' }] });
  const host = lab.host('node1');
  const empty = path.join(lab.tempDir, 'empty');
  const wrong = await host.exec([...programs.agent, 'run', '--idle-timeout', '5', '--log-level', 'loud']);
  assert.equal(wrong.code, 64);
  assert.match(wrong.stderr, /--idle-timeout: "5" must be a time with a unit.*such as 1h/);
  assert.match(wrong.stderr, /--log-level: "loud" must be one of/);
  const lost = await host.exec([...programs.agent, 'run', '--node', 'node1', '--state-dir', empty]);
  assert.equal(lost.code, 1);
  assert.match(lost.stderr, /has not joined the mesh yet \(pass .*culvert token create --node node1 makes one/);
  // Whose user the agent becomes must reach it.
  chmodSync(lab.tempDir, 0o755);
  const file = path.join(lab.tempDir, 'file');
  writeFileSync(file, '');
  for (const stateDir of [file, path.join(file, 'state')]) {
    const { code, stderr } = await host.exec([...programs.agent, 'run', '--node', 'node1', '--state-dir', stateDir]);
    assert.equal(code, 1);
    assert.match(
      stderr,
      new RegExp(`^culvert-agent: cannot (?:read|write) ${file}[^\\n]*: ${file} is no directory \\(name another`, 'm'),
    );
  }
  const asNobody = ['setpriv', '--reuid=65534', '--clear-groups', ...programs.agent];
  const plain = await host.exec([...asNobody, 'run', '--state-dir', empty]);
  assert.equal(plain.code, 1);
  assert.match(plain.stderr, /^culvert-agent: the agent needs Linux and root.*start it with sudo.*\n$/);
});
