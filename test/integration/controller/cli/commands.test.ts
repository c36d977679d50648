import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { parse } from 'yaml';
import type { RunningController } from '../../../../controller/app.js';
import { programs } from '../../../lab/programs.js';
import { ApiClient } from '../../../../controller/cli/client/api-client.js';
import { loadContext } from '../../../../controller/cli/client/context.js';
import { culvert as run, type CliRun } from '../../../support/controller/cli-fixture.js';
import { startedController, temporaryDirectory } from '../../../support/controller/controller-fixture.js';

const base = `
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: api, namespace: billing, labels: { app: api } }
spec: { serviceAccount: api, addresses: [198.18.0.1], node: host-a, netns: api }
---
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: db, namespace: billing, labels: { app: db } }
spec: { serviceAccount: db, addresses: [198.18.0.2], node: host-b, netns: db }
---
apiVersion: culvert.dev/v1
kind: Segment
metadata: { name: databases }
spec: { members: [{ serviceAccount: billing/db }] }
`;
const rule = `
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: db-only }
spec:
  action: deny
  priority: 200
  to: [{ segment: databases }]
  ports: [5432]
`;

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let controller: RunningController;
let context = '';

before(async () => {
  directory = await temporaryDirectory();
  controller = await startedController(join(directory.path, 'state'));
  context = join(directory.path, 'state', 'admin.yaml');
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

function culvert(...argv: readonly string[]): Promise<CliRun> {
  return run(argv, { env: { CULVERT_CONTEXT: context } });
}

function culvertWith(stdin: string, ...argv: readonly string[]): Promise<CliRun> {
  return run(argv, { env: { CULVERT_CONTEXT: context }, stdin });
}

async function file(name: string, contents: string): Promise<string> {
  const path = join(directory.path, name);
  await writeFile(path, contents);
  return path;
}

it('says that the versions differ when the controller has no such route', async () => {
  const client = new ApiClient({ context: await loadContext(context, {}) });
  for (const asked of [
    { method: 'GET', path: ['later'] },
    { method: 'DELETE', path: ['status'] },
  ] as const) {
    await assert.rejects(client.call(asked), {
      code: 'OTHER_VERSION',
      exit: 'failed',
      hint: 'run culvert in the version of the controller: compare culvert --version with culvert check',
    });
  }
});

// The steps follow one another, as a person would go.
describe('the culvert command with a running controller', () => {
  it('changes nothing in a dry run', async () => {
    const { code, out } = await culvertWith(base, 'apply', '-f', '-', '--dry-run');
    assert.equal(code, 0, out);
    assert.match(out, /^Workload\/billing\/api created \(dry run\)\n[^]*stays in force$/);
    assert.equal((await culvert('get', 'workload')).err, 'there is no Workload');
  });

  it('applies a directory and waits for the agents that are alive', async () => {
    await mkdir(join(directory.path, 'rules'));
    await file('rules/1-base.yaml', base);
    await file('rules/2-rule.yml', rule);
    await file('rules/ignored.txt', 'a: [');
    const { code, out } = await culvert(
      'apply',
      '-f',
      join(directory.path, 'rules'),
      '--wait',
      '5s',
      '--ignore-silent',
    );
    assert.equal(code, 0, out);
    assert.match(
      out,
      /^Workload\/billing\/api created\nWorkload\/billing\/db created\nSegment\/databases created\nSegmentationRule\/db-only created\nrevision \d+, inventory \d+\nenforced by 0 agents$/,
    );
  });

  it('says that nothing changed when the same is applied again', async () => {
    const { out } = await culvertWith(base, 'apply', '-f', '-', '-o', 'json');
    const { changes } = JSON.parse(out) as { changes: { change: string }[] };
    assert.deepEqual(
      changes.map(({ change }) => change),
      ['unchanged', 'unchanged', 'unchanged'],
    );
  });

  it('lists every problem with its file and line, and changes nothing', async () => {
    const first = await file('first.yaml', rule.replace('action: deny', 'action: deyn'));
    const second = await file('second.yaml', '# comment\n---\napiVersion: culvert.dev/v1\nkind: Segmnt\n');
    const { code, out, err } = await culvert('apply', '-f', first, second);
    assert.equal(code, 1);
    assert.equal(out, '');
    assert.match(
      err,
      /error: .*first\.yaml:6: SegmentationRule\/db-only: spec\.action: must not be "deyn" \(did you mean "deny"/,
    );
    assert.match(err, /error: .*second\.yaml:4: kind: there is no kind "Segmnt"/);
    assert.match(err, /nothing was changed.*\[INVALID_RESOURCES\]$/);
  });

  it('shows a warning with its file and line', async () => {
    const path = await file('warning.yaml', rule.replace('segment: databases', 'serviceAccount: billing/bd'));
    const { code, err } = await culvert('apply', '-f', path, '--dry-run');
    assert.equal(code, 0);
    assert.match(
      err,
      /^warning: .*warning\.yaml:8: .*no workload runs as service account billing\/bd \(did you mean "billing\/db"\?\)/,
    );
  });

  it('takes what kubectl get writes, and warns of what matches nothing in the line of its item', async () => {
    const list = [
      'apiVersion: v1',
      'items:',
      '- apiVersion: networking.k8s.io/v1',
      '  kind: NetworkPolicy',
      '  metadata: { creationTimestamp: null, name: closed, namespace: listed, resourceVersion: "7" }',
      '  spec: { podSelector: {}, policyTypes: [] }',
      '- apiVersion: security.istio.io/v1',
      '  kind: AuthorizationPolicy',
      '  metadata: { name: named, namespace: listed }',
      '  spec:',
      '    rules:',
      '    - from:',
      '      - source:',
      '          principals: ["listed/api", " cluster.local/ns/listed/sa/api"]',
      '      - source:',
      '          namespaces: ["listed "]',
      'kind: List',
    ].join('\n');
    const path = await file('list.yaml', list);
    const { code, out, err } = await culvert('apply', '-f', path, '--dry-run');
    assert.equal(code, 0, err);
    assert.match(out, /NetworkPolicy\/listed\/closed [^]*AuthorizationPolicy\/listed\/named /);
    assert.equal(
      err.match(/^warning: .*list\.yaml:14: AuthorizationPolicy\/listed\/named: .*matches nothing/gm)?.length,
      2,
    );
    assert.match(
      err,
      /^warning: .*list\.yaml:16: .*"listed " matches nothing: no name has a space \(write "listed"\)/m,
    );
  });

  it('gets a table, JSON, and YAML that can be applied again', async () => {
    const table = await culvert('get', 'rules');
    assert.match(table.out, /^NAME +TIER +PRIORITY[^]*\ndb-only +team +200 +deny +enforce +any +seg:databases +5432/);
    const json = await culvert('get', 'SegmentationRule', 'db-only', '-o', 'json');
    assert.equal((JSON.parse(json.out) as { appliedBy: string }).appliedBy, 'admin');
    const yaml = await culvert('get', 'all', '-o', 'yaml');
    const again = await culvertWith(yaml.out, 'apply', '-f', '-');
    assert.equal((again.out.match(/ unchanged$/gm) ?? []).length, 4);
  });

  it('gets from one namespace, and from all of them', async () => {
    assert.match((await culvert('get', 'wl', '-n', 'billing')).out, /billing +db/);
    assert.equal((await culvert('get', 'wl', '-n', 'shop')).err, 'there is no Workload in namespace shop');
    assert.match((await culvert('get', 'wl', 'db', '-n', 'billing')).out, /198\.18\.0\.2/);
  });

  it('exits with 4 for a name that does not exist', async () => {
    const { code, err } = await culvert('get', 'workload', 'dbb', '-n', 'billing');
    assert.equal(code, 4);
    assert.match(err, /there is no Workload dbb in the namespace billing \(did you mean db\?\) \[NOT_FOUND\]/);
  });

  it('explains a refusal with rule, trace, revision and author', async () => {
    const { code, out } = await culvert('why', 'billing/api', 'billing/db:5432', '--expect', 'deny');
    assert.equal(code, 0);
    assert.match(out, /^DENIED {2}POLICY_DENY {2}SegmentationRule\/db-only \(tier team\)\n/);
    assert.match(
      out,
      /team +deny +SegmentationRule\/db-only +any source; destination billing\/db is in segment databases; port 5432 is in 5432/,
    );
    assert.match(out, /revision \d+, applied by admin \d+s ago/);
  });

  it('exits with 1 when another verdict was expected', async () => {
    const { code, out, err } = await culvert('why', 'billing/api', 'billing/db:80', '--expect', 'deny');
    assert.equal(code, 1);
    assert.match(out, /^ALLOWED {2}OK {2}Mesh\/default/);
    assert.match(err, /expected the verdict deny .*\[UNEXPECTED_VERDICT\]/);
  });

  it('exits with 64 when an argument of why is unusable', async () => {
    for (const [source, target] of [
      ['api', 'billing/db:80'],
      ['billing/api', 'billing/db'],
    ] as const) {
      const { code, err } = await culvert('why', source, target);
      assert.equal(code, 64, err);
      assert.match(err, /\[BAD_REQUEST\]/);
    }
  });

  it('exits with 4 when the source is not known', async () => {
    const { code, err } = await culvert('why', 'billing/apj', 'billing/db:80');
    assert.equal(code, 4);
    assert.match(err, /did you mean billing\/api\?/);
  });

  it('refuses to delete what others refer to, and deletes files at once, in any order', async () => {
    const refused = await culvert('delete', 'segment', 'databases');
    assert.equal(refused.code, 1);
    assert.match(refused.err, /SegmentationRule\/db-only: spec\.to\[0\]\.segment: there is no Segment "databases"/);
    const rules = join(directory.path, 'rules');
    // The file for `culvert test` among the rules was never applied.
    const tests = join(directory.path, 'tests.yaml');
    await writeFile(tests, '- { from: billing/api, to: billing/db:5432, expect: allow }\n');
    const { code, out } = await culvert('delete', '-f', join(rules, '2-rule.yml'), tests, join(rules, '1-base.yaml'));
    assert.equal(code, 0);
    const deleted = out.match(/ deleted, revision \d+(?:, inventory \d+)?$/gm) ?? [];
    assert.deepEqual([deleted.length, new Set(deleted).size], [4, 1], out);
    assert.equal((await culvert('delete', 'segment', 'databases')).code, 4);
    assert.equal((await culvert('delete', 'segment', 'databases', '--ignore-not-found')).code, 0);
    const nothing = await culvert('delete', 'segment', 'databases', '--ignore-not-found', '-o', 'json');
    assert.deepEqual(JSON.parse(nothing.out), { revision: null, inventorySequence: null, changes: [] });
  });

  it('makes a token that is alone on the standard output', async () => {
    const { code, out, err } = await culvert('token', 'create', '--node', 'host-a', '--ttl', '10m');
    assert.equal(code, 0);
    assert.match(out, /^culvert1\.[^\s.]+\.[^\s.]+\.[^\s.]+$/);
    assert.match(err, /for node host-a, expires in (9|10)m/);
  });

  it('shows status and nodes before anybody has joined', async () => {
    const status = await culvert('status');
    assert.match(status.out, /^controller +0\.\d[^]*revision +\d+, applied \d+s ago by admin[^]*No agent has joined/);
    const json = await culvert('status', '-o', 'json');
    assert.deepEqual((JSON.parse(json.out) as { agents: unknown[] }).agents, []);
    assert.equal((await culvert('nodes')).err, 'no agent has joined');
    assert.equal((await culvert('nodes', 'host-a')).code, 4);
  });

  it('checks the mesh, and fails for a warning only when it is strict', async () => {
    const empty = await file(
      'empty-segment.yaml',
      'apiVersion: culvert.dev/v1\nkind: Segment\nmetadata: { name: unused }\nspec: { members: [{ labels: { app: nothing } }] }\n',
    );
    const before = await culvert('check', '-o', 'json');
    assert.equal(before.code, 0, before.err);
    const states = (JSON.parse(before.out) as { check: string; state: string }[]).map(({ check, state }) => [
      check,
      state,
    ]);
    assert.deepEqual(states[0], ['controller', 'ok']);
    assert.equal((await culvert('apply', '-f', empty)).code, 0);
    const { code, out } = await culvert('check');
    assert.equal(code, 0);
    assert.match(out, /^✔ controller: the controller is ready$/m);
    assert.match(out, /^! rules: Segment\/unused: /m);
    const strict = await culvert('check', '--strict');
    assert.equal(strict.code, 1);
    assert.match(strict.err, /\[NOT_WELL\]$/);
    assert.equal((await culvert('delete', 'segment', 'unused')).code, 0);
  });

  it('exits with 5 when the token is not accepted', async () => {
    const known = parse(await readFile(context, 'utf8')) as Record<string, string>;
    const wrong = await file('wrong-token.yaml', JSON.stringify({ ...known, token: 'x'.repeat(43) }));
    const { code, err } = await run(['--context', wrong, 'status']);
    assert.equal(code, 5);
    assert.match(err, /\[UNAUTHORIZED\]$/);
  });

  it('exits with 3 when the certificate is of another CA', async () => {
    await using other = await temporaryDirectory();
    await using stranger = await startedController(join(other.path, 'state'));
    const known = parse(await readFile(context, 'utf8')) as Record<string, string>;
    const wrong = await file('wrong-ca.yaml', JSON.stringify({ ...known, ca: stranger.caPem }));
    const { code, err } = await run(['--context', wrong, 'status']);
    assert.equal(code, 3);
    assert.match(
      err,
      /the certificate of https:.* is not trusted \([A-Z_]+\) \(the context file has an old CA or that of another controller/,
    );
  });

  it('exits with 3 when nothing listens, and when it is no controller', async () => {
    const known = parse(await readFile(context, 'utf8')) as Record<string, string>;
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.resume();
      socket.end('SSH-2.0-OpenSSH\r\n');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    const wrong = await file(
      'wrong-port.yaml',
      JSON.stringify({ ...known, controller: `https://127.0.0.1:${address.port}` }),
    );
    const noTls = await run(['--context', wrong, 'status']);
    assert.equal(noTls.code, 3, noTls.err);
    server.close();
    await once(server, 'close');
    const { code, err } = await run(['--context', wrong, 'status']);
    assert.equal(code, 3);
    assert.match(err, /cannot reach the controller at https:\S+: nothing listens there \(start culvert-controller/);
  });

  it('works as a program, with a pipe that closes early', async () => {
    const [node, main] = programs.culvert;
    const child = spawn(node, [main, 'status', '-o', 'json'], {
      env: { ...process.env, CULVERT_CONTEXT: context },
    });
    const [out, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
    assert.equal(code, 0);
    assert.equal(typeof (JSON.parse(out) as { revision: number }).revision, 'number');
    const broken = spawn(node, [main, '--help'], { stdio: ['ignore', 'pipe', 'pipe'] });
    broken.stdout.destroy();
    const [errors, [brokenCode]] = await Promise.all([text(broken.stderr), once(broken, 'exit')]);
    assert.equal(brokenCode, 0, errors);
  });
});
