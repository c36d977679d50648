import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { startAgent, type RunningAgent } from '../../../../agent/app.js';
import { agentSettingsTable, type AgentSettings } from '../../../../agent/config/agent-settings.js';
import type { TokenAnswer, TokenItem } from '../../../../controller/api/api-types.js';
import { joinOnce } from '../../../../agent/control/join/membership.js';
import { StateDirectory } from '../../../../agent/control/state/state-directory.js';
import { rotateCa } from '../../../../controller/ca/ca-commands.js';
import type { RunningController } from '../../../../controller/app.js';
import { createLog, type Log } from '../../../../shared/log.js';
import { createIssuingCa, createRootCa } from '../../../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { issueServerCertificate } from '../../../../controller/ca/x509/mesh-certificates.js';
import {
  apply,
  callApi,
  eventually,
  startedController,
  temporaryDirectory,
  withDeadline,
  workloadDocument,
} from '../../../support/controller/controller-fixture.js';
import { nodeNamed } from '../../../support/routing/names.js';

type LogLine = { readonly level: string; readonly msg: string; readonly err?: { readonly code?: string } };

function newLog(): { log: Log; lines: LogLine[] } {
  const lines: LogLine[] = [];
  const stream = { write: (line: string) => void lines.push(JSON.parse(line) as LogLine) };
  return { log: createLog({ name: 'test', level: 'debug', stream }), lines };
}

/** The defaults, with every endpoint on a free port of loopback. */
function agentSettings(changes: Partial<AgentSettings>): AgentSettings {
  const defaults = Object.fromEntries(Object.entries(agentSettingsTable).map(([name, spec]) => [name, spec.default]));
  return {
    ...(defaults as unknown as AgentSettings),
    node: 'host-a',
    workers: 1,
    adminAddress: '127.0.0.1:0',
    metricsAddress: '127.0.0.1:0',
    healthAddress: '127.0.0.1:0',
    heartbeatIntervalMs: 1000,
    ...changes,
  };
}

function start(settings: AgentSettings, log: Log): Promise<RunningAgent> {
  return startAgent({ settings, log, shownConfiguration: {} });
}

async function newToken(controller: RunningController, node = 'host-a'): Promise<string> {
  const answer = await callApi(controller, 'POST', '/v1/tokens', { body: { node } });
  return (answer.body as TokenAnswer).token;
}

async function ask(port: number, pathname: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${port}${pathname}`);
  return { status: response.status, text: await response.text() };
}

test('an agent joins with a token, becomes ready, and starts from disk without one', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(path.join(directory.path, 'controller'));
  const stateDir = path.join(directory.path, 'agent');
  const { log } = newLog();
  const token = await newToken(controller);
  const settings = agentSettings({ stateDir, controllerUrl: controller.url, token });
  {
    await using agent = await start(settings, log);
    await withDeadline(agent.joined, 'the agent joins');
    await eventually('the agent is ready', async () => (agent.readiness().isReady ? true : undefined));
    assert.equal((await ask(agent.ports.health, '/readyz')).status, 200);
    assert.equal((await ask(agent.ports.health, '/healthz')).status, 200);
    const dump = await ask(agent.ports.admin, '/dump');
    assert.match(dump.text, /"trustDomain": "culvert.local"/);
    assert.doesNotMatch(dump.text, /PRIVATE KEY|"SU[A-Z2-7]{20}|culvert1\./);
    const { revision } = (
      await apply(controller, workloadDocument('shop', 'far', { ip: '198.18.9.9', node: 'host-b' }))
    ).body as { revision: number };
    await eventually('the revision is enforced', async () => {
      const { text } = await ask(agent.ports.metrics, '/metrics');
      return text.includes(`culvert_enforced_revision ${revision}\n`) ? true : undefined;
    });
  }
  const file = path.join(stateDir, 'credentials.json');
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  assert.doesNotMatch(await readFile(file, 'utf8'), /culvert1\./, 'the token is not kept');
  await using again = await start({ ...settings, token: null }, log);
  await withDeadline(again.joined, 'the agent starts from disk');
  await eventually('the agent is ready again', async () => (again.readiness().isReady ? true : undefined));
});

test('a server whose CA is not the one in the token never gets the secret', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(path.join(directory.path, 'controller'));
  await using imposter = await Imposter.start();
  const { log, lines } = newLog();
  const settings = agentSettings({
    stateDir: path.join(directory.path, 'agent'),
    controllerUrl: imposter.url,
    token: await newToken(controller),
  });
  await using agent = await start(settings, log);
  await eventually('the refusal is logged', async () => lines.find((line) => line.err?.code === 'CA_MISMATCH'));
  assert.deepEqual(imposter.requests, ['GET /v1/ca']);
  const ready = await ask(agent.ports.health, '/readyz');
  assert.equal(ready.status, 503);
  assert.match(ready.text, /"joined"/);
});

test('an agent whose state belongs to another node does not start with it', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(path.join(directory.path, 'controller'));
  const settings = agentSettings({
    stateDir: path.join(directory.path, 'agent'),
    controllerUrl: controller.url,
    token: await newToken(controller),
  });
  const { log } = newLog();
  {
    await using agent = await start(settings, log);
    await withDeadline(agent.joined, 'the agent joins');
  }
  await using other = await start({ ...settings, node: 'host-b' }, log);
  await assert.rejects(other.joined, { code: 'NODE_MISMATCH' });
});

test('an agent without join settings says what is needed', async () => {
  await using directory = await temporaryDirectory();
  const { log } = newLog();
  await using agent = await start(agentSettings({ stateDir: directory.path }), log);
  await assert.rejects(agent.joined, {
    code: 'NOT_JOINED',
    hint: /^pass the address .* and .*--node host-a makes one/,
  });
  const state = new StateDirectory({ path: path.join(directory.path, 'other') });
  const o = { directory: state, version: 'test', log, signal: new AbortController().signal };
  for (const [controllerUrl, expected] of [
    ['https://127.0.0.1:1', { code: 'NOT_JOINED', hint: /^pass a token with --token-file [^;]*$/ }],
    ['http://127.0.0.1:1', { code: 'CONTROLLER_URL', hint: /https:\/\/127\.0\.0\.1/ }],
  ] as const) {
    const settings = { node: nodeNamed('host-a'), controllerUrl, token: null, tokenFile: null, controllerCaFile: null };
    await assert.rejects(joinOnce({ ...o, settings }), expected);
  }
});

test('a token from before a rotation is refused with that as the cause, and shown as one of an old CA', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'controller');
  const place = { stateDir, trustDomain: 'culvert.local' };
  const { log } = newLog();
  const join = (controllerUrl: string, token: string): Promise<unknown> =>
    joinOnce({
      settings: { node: nodeNamed('host-a'), controllerUrl, token, tokenFile: null, controllerCaFile: null },
      directory: new StateDirectory({ path: path.join(directory.path, 'agent') }),
      version: 'test',
      log,
      signal: new AbortController().signal,
    });
  let token: string;
  {
    await using controller = await startedController(stateDir, { changes: { listen: '0.0.0.0:0' } });
    token = await newToken(controller);
    const elsewhere = controller.url.replace('127.0.0.1', '127.0.0.9');
    await assert.rejects(join(elsewhere, token), {
      code: 'CONTROLLER_UNTRUSTED',
      message: /is for other names: .*localhost.*127\.0\.0\.1/,
      hint: /add 127\.0\.0\.9 to the setting "advertise"/,
    });
  }
  const refused = { code: 'CA_MISMATCH', hint: /if the CA was rotated .*: culvert token create --node host-a;/ };
  for (const steps of [['prepare', 'activate'], ['finish']] as const) {
    for (const step of steps) await rotateCa(place, step, { isForced: true });
    await using controller = await startedController(stateDir);
    assert.deepEqual(await tokenStates(controller), ['old CA']);
    await assert.rejects(join(controller.url, token), refused);
  }
});

test('a token file that appears later is used, and a refusal names the reason meanwhile', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(path.join(directory.path, 'controller'));
  const tokenFile = path.join(directory.path, 'token');
  await writeFile(tokenFile, await newToken(controller, 'host-z'));
  const { log, lines } = newLog();
  const stateDir = path.join(directory.path, 'agent');
  await using agent = await start(agentSettings({ stateDir, controllerUrl: controller.url, tokenFile }), log);
  await eventually('the refusal', async () => lines.find((line) => line.err?.code === 'TOKEN_WRONG_NODE'));
  await writeFile(tokenFile, await newToken(controller));
  await withDeadline(agent.joined, 'the agent joins with the new token');
});

async function tokenStates(controller: RunningController): Promise<string[]> {
  const { body } = await callApi(controller, 'GET', '/v1/tokens');
  return (body as TokenItem[]).map(({ state }) => state);
}

test('a join spends no token while the state directory cannot be written, and every line of the log says so', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(path.join(directory.path, 'controller'));
  const inTheWay = path.join(directory.path, 'agent');
  await symlink(path.join(directory.path, 'nowhere'), inTheWay);
  const { log, lines } = newLog();
  const token = await newToken(controller);
  const settings = agentSettings({ stateDir: path.join(inTheWay, 'state'), controllerUrl: controller.url, token });
  await using agent = await start(settings, log);
  const failures = (): LogLine[] => lines.filter((line) => line.msg === 'the host could not join the mesh');
  await eventually('two attempts have failed', async () => (failures().length >= 2 ? true : undefined));
  assert.deepEqual(await tokenStates(controller), ['usable']);
  await rm(inTheWay);
  await withDeadline(agent.joined, 'the agent joins with the same token');
  for (const { err } of failures()) assert.equal(err?.code, 'STATE_WRITE');
  assert.deepEqual(await tokenStates(controller), ['used']);
});

test('credentials that cannot be stored after the join are kept, and only the write is repeated', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(path.join(directory.path, 'controller'));
  const stateDir = path.join(directory.path, 'agent');
  const settings = agentSettings({ stateDir, controllerUrl: controller.url, token: await newToken(controller) });
  const { log, lines } = newLog();
  // Other files can be written there, so the write fails only after the token is spent.
  const inTheWay = path.join(stateDir, 'credentials.json');
  const state = new StateDirectory({ path: stateDir });
  await state.credentials.assertWritable(1);
  const o = { settings: { ...settings, node: nodeNamed('host-a') }, directory: state, version: 'test', log };
  const stop = new AbortController();
  await mkdir(path.join(inTheWay, 'full'), { recursive: true });
  const joining = joinOnce({ ...o, signal: stop.signal });
  await eventually('the write has failed', async () => lines.find(({ err }) => err?.code === 'STATE_WRITE'));
  assert.deepEqual(await tokenStates(controller), ['used']);
  await rm(inTheWay, { recursive: true });
  const { node } = await withDeadline(joining, 'the write is repeated');
  assert.equal(node, 'host-a');
  assert.equal((await stat(inTheWay)).isFile(), true);
  assert.deepEqual(await readdir(stateDir), ['credentials.json'], 'nothing is left of the attempts');
});

test('the admin endpoint answers to loopback names only and changes the level on POST only', async () => {
  await using directory = await temporaryDirectory();
  const { log } = newLog();
  await using agent = await start(agentSettings({ stateDir: directory.path }), log);
  agent.joined.catch(() => undefined);
  const base = `http://127.0.0.1:${agent.ports.admin}`;
  assert.equal((await fetch(`${base}/log?level=trace`)).status, 200);
  assert.equal(log.level, 'debug', 'a GET only shows it');
  assert.equal((await fetch(`${base}/log?level=trace`, { method: 'POST' })).status, 200);
  assert.equal(log.level, 'trace');
  assert.equal((await fetch(`${base}/log?level=loud`, { method: 'POST' })).status, 400);
  assert.equal((await fetch(`${base}/config`, { method: 'POST' })).status, 405);
  assert.equal((await fetch(`${base}/nothing`)).status, 404);
});

/** A foreign HTTPS server with its own CA, which records the requests it gets. */
class Imposter implements AsyncDisposable {
  readonly requests: string[] = [];
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<Imposter> {
    const root = await createRootCa({ trustDomain: 'evil.test' });
    const issuer = await createIssuingCa({ root, trustDomain: 'evil.test' });
    const { csrPem, privateKeyPem } = await createCsr({ commonName: 'imposter' });
    const names = { dnsNames: ['localhost'], ipAddresses: ['127.0.0.1'] };
    const { chainPem } = await issueServerCertificate({ issuer, csrPem, ...names, ttlMs: 3_600_000 });
    const server = createServer({ key: privateKeyPem, cert: chainPem });
    const imposter = new Imposter(server);
    server.on('request', (request, response) => {
      imposter.requests.push(`${request.method} ${request.url}`);
      response.end(JSON.stringify({ rootsPem: root.certificatePem }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return imposter;
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }
}
