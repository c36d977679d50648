import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { LabServer } from '../lab/namespace-sockets.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { ask, HeldConnection, startEcho, type EchoTarget } from './echo-traffic.js';
import { documents, meshOf, ruleWorld, segmentationRule } from './rule-world.js';

let mesh: Mesh;
let echo: LabServer;
let target: EchoTarget;

before(async () => {
  mesh = await startMesh({ topology: ruleWorld });
  const server = mesh.lab.workload('db');
  echo = await startEcho(server);
  target = { ip: server.ipv4, port: echo.port };
});

after(async () => {
  await echo.close();
  await mesh[Symbol.asyncDispose]();
});

const peers = 'from: [{ labels: { app: web } }], to: [{ labels: { tier: back } }]';

async function applyRules(...rules: readonly string[]): Promise<number> {
  return await mesh.apply(documents(mesh.lab.resources(), meshOf('{ defaultAction: allow }'), ...rules));
}

const noBack = (fields: string): string => segmentationRule('lifecycle', `{ action: deny, ${peers}, ${fields} }`);

test('an audited rule lets a connection live and says so, and enforced it cuts it', async () => {
  const web = mesh.lab.workload('web');
  await applyRules(noBack('mode: audit'));
  const held = await HeldConnection.open(web, target);
  assert.equal(await ask(web, target), 'ok');
  await mesh
    .agent('node1')
    .waitForRecord('an audited connection', ({ audited }) => audited?.includes('SegmentationRule/lifecycle') === true);
  await applyRules(noBack('mode: enforce'));
  assert.equal(await held.ending(1000), 'ECONNRESET');
  assert.equal(await ask(web, target), 'ECONNRESET');
});

test('a rule that drains gives open connections its grace, and new ones none', async () => {
  const web = mesh.lab.workload('web');
  await applyRules(noBack('mode: audit'));
  const held = await HeldConnection.open(web, target);
  await applyRules(noBack('onChange: drain 2s'));
  await held.exchange();
  assert.equal(await ask(web, target), 'ECONNRESET');
  assert.equal(await held.ending(4000), 'ECONNRESET');
});

test('a rule that keeps lets open connections live, and new ones not begin', async () => {
  const web = mesh.lab.workload('web');
  await applyRules(noBack('mode: audit'));
  const held = await HeldConnection.open(web, target);
  await applyRules(noBack('onChange: keep'));
  assert.equal(await ask(web, target), 'ECONNRESET');
  await held.exchange();
  assert.equal(await held.close(), 'end');
});

test('what a rule allows until an instant ends then, without a new revision', async () => {
  const web = mesh.lab.workload('web');
  const expiresAtMs = Date.now() + 6000;
  const allow = `{ action: allow, priority: 1, ${peers}, expiresAt: "${new Date(expiresAtMs).toISOString()}" }`;
  const revision = await applyRules(segmentationRule('for-now', allow), noBack('priority: 2'));
  const held = await HeldConnection.open(web, target);
  assert.equal(await held.ending(10_000), 'ECONNRESET');
  assert.ok(Date.now() >= expiresAtMs);
  assert.equal(await ask(web, target), 'ECONNRESET');
  const refused = await mesh
    .agent('node1')
    .waitForRecord(
      'the expiry',
      ({ reason, rule }) => reason === 'POLICY_EXPIRED' && rule?.endsWith('for-now') === true,
    );
  assert.equal(refused.revision, revision);
});
