import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parse } from 'yaml';
import type { StatusAnswer, TokenAnswer } from '../../controller/api/api-types.js';
import type { CommandResult } from '../lab/command.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { documents, meshOf, segmentationRule } from '../support/mesh/rule-world.js';
import { twoHosts } from '../support/mesh/two-hosts.js';

let mesh: Mesh;
let directory = '';

before(async () => {
  mesh = await startMesh({ topology: twoHosts, culvert: 'program' });
  directory = mkdtempSync(path.join(mesh.lab.tempDir, 'documents-'));
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

const culvert = (...args: readonly string[]): Promise<CommandResult> => mesh.controller.culvert(args);

function file(name: string, text: string): string {
  const written = path.join(directory, name);
  writeFileSync(written, text);
  return written;
}

async function revision(): Promise<number> {
  return ((await mesh.controller.culvertJson(['status'])) as StatusAnswer).revision;
}

const rule = segmentationRule('good', '{ action: deny, to: [{ namespace: shop }], ports: [1234] }');
const twin = segmentationRule('twin', '{ action: allow, to: [{ namespace: shop }], ports: [1234] }');

/** What a person can get wrong in one file, and what they read. The exit code is 1, or 64 for what is no YAML. */
const mistakes: readonly [what: string, text: string, problem: RegExp][] = [
  ['YAML that is broken', `${rule}\n  [`, /bad\.yaml:\d+:|YAML/],
  [
    'an unknown kind',
    rule.replace('SegmentationRule', 'SegmentatonRule'),
    /bad\.yaml:3: .*kind: there is no kind "SegmentatonRule" \(did you mean "SegmentationRule"\?\)/,
  ],
  ['an unknown field', rule.replace('ports:', 'prots:'), /bad\.yaml:5: SegmentationRule\/good: spec\.prots: .*ports/],
  ['the same name twice', documents(rule, rule), /bad\.yaml:\d+: SegmentationRule\/good: .*(twice|already|also)/],
  [
    'a segment that does not exist',
    segmentationRule('good', '{ action: deny, to: [{ segment: nowhere }] }'),
    /bad\.yaml:5: SegmentationRule\/good: spec\.to\[0\]\.segment: there is no Segment "nowhere"/,
  ],
  [
    'two rules that overlap with one priority',
    documents(rule, twin),
    /bad\.yaml:\d+: SegmentationRule\/\w+: .*priority/,
  ],
];

describe('culvert apply refuses, says where, and changes nothing', () => {
  for (const [what, text, problem] of mistakes) {
    test(what, async () => {
      const before = await revision();
      const { code, stdout, stderr } = await culvert('apply', '-f', file('bad.yaml', text));
      assert.ok(code === 1 || code === 64, `exit code ${code}`);
      assert.equal(stdout, '');
      assert.match(stderr, problem);
      assert.equal(await revision(), before);
      assert.equal((await culvert('get', 'SegmentationRule', 'good')).code, 4);
    });
  }

  test('every problem of every document at once, and the good document with them', async () => {
    const before = await revision();
    const bad = file(
      'several.yaml',
      documents(
        rule,
        segmentationRule('one', '{ action: forbid }'),
        meshOf('{ mtls: SOMETIMES }'),
        segmentationRule('two', '{ action: deny, ports: [70000] }'),
      ),
    );
    const { code, stderr } = await culvert('apply', '-f', bad, '-f', file('other.yaml', 'kind: Nothing\n'));
    assert.equal(code, 1);
    for (const problem of [
      /several\.yaml:\d+: SegmentationRule\/one: spec\.action: /,
      /several\.yaml:\d+: Mesh\/default: spec\.mtls: /,
      /several\.yaml:\d+: SegmentationRule\/two: spec\.ports\[0\]: 70000 must be a port/,
      /other\.yaml:1: .*kind/,
      /problems were found; nothing was changed/,
    ]) {
      assert.match(stderr, problem);
    }
    assert.equal(await revision(), before);
  });

  test('a file that does not exist, with exit code 64', async () => {
    const { code, stderr } = await culvert('apply', '-f', path.join(directory, 'missing.yaml'));
    assert.equal(code, 64);
    assert.match(stderr, /there is no file .*missing\.yaml/);
  });
});

describe('culvert apply --wait', () => {
  test('does not say enforced before a new workload is captured, and names it', async () => {
    const late = `apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: late, namespace: shop }
spec: { addresses: [198.18.250.1], node: node1, netns: /run/netns/not-there-yet }
`;
    const { code, stdout, stderr } = await culvert('apply', '-f', file('late.yaml', late), '--wait', '3s');
    assert.equal(code, 1);
    assert.doesNotMatch(stdout, /enforced by/);
    assert.match(
      stderr,
      /not captured and served by an agent that runs: shop\/late on node1 \(.+\) .*\[WORKLOADS_NOT_CAPTURED\]/,
    );

    const other = await culvert('apply', '-f', file('good.yaml', rule), '--wait', '20s');
    assert.equal(other.code, 0, other.stderr);
    assert.match(other.stdout, /\nenforced by 2 agents\n$/);
    assert.match(other.stderr, /not captured and served by an agent that runs: shop\/late on node1/);
    const deleted = await culvert('delete', '-f', file('late.yaml', late), '-f', file('good.yaml', rule));
    assert.equal(deleted.code, 0, deleted.stderr);
  });
});

describe('culvert shows what is there as table, JSON and YAML', () => {
  test('resources that are applied, read, and deleted again', async () => {
    const applied = await culvert('apply', '-f', file('good.yaml', rule), '--wait', '20s');
    assert.equal(applied.code, 0, applied.stderr);
    assert.match(applied.stdout, /^SegmentationRule\/good created\nrevision \d+\nenforced by 2 agents\n$/);

    const table = await culvert('get', 'segmentationrules');
    assert.match(table.stdout, /^NAME +TIER +PRIORITY +ACTION .*\ngood +team +1000 +deny /);
    const yaml = await culvert('get', 'SegmentationRule', 'good', '-o', 'yaml');
    assert.deepEqual((parse(yaml.stdout) as { metadata: unknown }).metadata, { name: 'good' });
    const again = await mesh.controller.culvert(['apply', '-f', '-'], yaml.stdout);
    assert.match(again.stdout, /^SegmentationRule\/good unchanged\n/);
    const json = JSON.parse((await culvert('get', 'Workload', '-o', 'json')).stdout) as { items: unknown[] };
    assert.equal(json.items.length, 4);

    const before = await revision();
    const deleted = await culvert('delete', 'SegmentationRule', 'good', '-o', 'json');
    assert.deepEqual(JSON.parse(deleted.stdout), {
      revision: before + 1,
      inventorySequence: null,
      changes: [{ kind: 'SegmentationRule', namespace: null, name: 'good', change: 'deleted' }],
    });
    const missing = await culvert('delete', 'SegmentationRule', 'good');
    assert.equal(missing.code, 4);
    assert.match(missing.stderr, /there is no SegmentationRule good/);
  });

  test('the agents', async () => {
    // Agents tell with their next heartbeat that they enforce the newest revision.
    const table = await waitUntil('no agent is behind', async () => {
      const answer = await culvert('status');
      return answer.stdout.includes(' behind ') ? undefined : answer;
    });
    assert.match(table.stdout, /\nNODE +STATE +REVISION +LAG +CAPTURED +CERTIFICATES +CLOCK +SEEN\n/);
    assert.match(table.stdout, /^node1 +\w+ +\d+ +0 +2\/2 /m);
    const yaml = parse((await culvert('status', '-o', 'yaml')).stdout) as StatusAnswer;
    assert.deepEqual(
      yaml.agents.map(({ node }) => node),
      ['node1', 'node2'],
    );
    const check = await culvert('check');
    assert.equal(check.code, 0, check.stdout);
    assert.match(check.stdout, /^✔ agents: every agent enforces the current revision$/m);
    const nodes = JSON.parse((await culvert('nodes', '-o', 'json')).stdout) as StatusAnswer['agents'];
    assert.equal(nodes.length, 2);
    const one = await culvert('nodes', 'node2');
    assert.match(one.stdout, /^shop\/server +yes /m);
    const none = await culvert('nodes', 'node22');
    assert.equal(none.code, 4);
    assert.match(none.stderr, /did you mean node2\?/);
  });

  test('a join token', async () => {
    const plain = await culvert('token', 'create', '--node', 'node3');
    assert.match(plain.stdout, /^culvert1\.[0-9a-f]+\.[0-9a-f]+\.[0-9a-f]{64}\n$/);
    assert.match(plain.stderr, /for node node3, expires in .*culvert-agent join/);
    const json = (await mesh.controller.culvertJson([
      'token',
      'create',
      '--node',
      'node3',
      '--ttl',
      '1m',
    ])) as TokenAnswer;
    assert.equal(json.node, 'node3');
    assert.ok(json.expiresAtMs <= Date.now() + 60_000);
    assert.equal((await culvert('token', 'create', '--node', 'Node Three')).code, 64);
  });

  test('why, with the verdict that was expected as exit code', async () => {
    const target = ['why', 'shop/client', 'shop/server:8080'];
    const explained = await culvert(...target, '--expect', 'allow');
    assert.equal(explained.code, 0);
    assert.match(explained.stdout, /^ALLOWED +OK +Mesh\/default\n/);
    const surprised = await culvert(...target, '--expect', 'deny');
    assert.equal(surprised.code, 1);
    assert.match(surprised.stderr, /UNEXPECTED_VERDICT/);
  });
});

describe('when the controller cannot be used', () => {
  test('a token that it does not know ends with 5', async () => {
    const context = parse(await mesh.controller.node.check(['cat', mesh.controller.contextFile])) as { token: string };
    const wrong = file('wrong.yaml', JSON.stringify({ ...context, token: 'not-the-token' }));
    const { code, stderr } = await culvert('--context', wrong, 'status');
    assert.equal(code, 5, stderr);
  });

  test('a context file that does not exist ends with 2, and says where one comes from', async () => {
    const { code, stderr } = await culvert('--context', path.join(directory, 'none.yaml'), 'status');
    assert.equal(code, 64);
    assert.match(stderr, /an administrator makes one: culvert user create NAME/);
  });

  // The last one: the controller is gone then.
  test('a controller that is down ends with 3, and says what to do', async () => {
    await mesh.controller.stop();
    for (const args of [['status'], ['get', 'Workload'], ['apply', '-f', file('good.yaml', rule)]]) {
      const { code, stdout, stderr } = await culvert(...args);
      assert.equal(code, 3, stderr);
      assert.equal(stdout, '');
      assert.match(
        stderr,
        /^culvert: cannot reach the controller at https:.*: nothing listens there \(start culvert-controller, .*\) \[UNREACHABLE\]\n$/,
      );
    }
  });
});
