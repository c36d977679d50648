import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { RunningController } from '../../../../controller/app.js';
import type { FlowsAnswer } from '../../../../controller/api/api-types.js';
import type { Bus } from '../../../../shared/bus/bus.js';
import { connectBus } from '../../../../shared/bus/connect-bus.js';
import { createUser } from '../../../../shared/bus/nats-accounts.js';
import { inboxPrefixFor, subjectFor } from '../../../../shared/bus/subjects.js';
import { formatSpiffeId } from '../../../../shared/identity.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { encodeFlowBatch } from '../../../../shared/wire/flow-batch.js';
import type { FlowParty, ReportedFlow } from '../../../../shared/wire/flows.js';
import { joinResponseSchema } from '../../../../shared/wire/requests.js';
import { culvert as run, type CliRun } from '../../../support/controller/cli-fixture.js';
import { callApi, startedController, temporaryDirectory } from '../../../support/controller/controller-fixture.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';

const node = 'host-a';
const workloads = ['api', 'db', 'shell']
  .map(
    (name, index) => `
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: ${name}, namespace: billing }
spec: { serviceAccount: ${name}, addresses: [198.18.0.${index + 1}], node: ${node}, netns: ${name} }
---`,
  )
  .join('');

function denyRule(mode: 'audit' | 'enforce', from: string): string {
  return `
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: no-${from} }
spec:
  action: deny
  mode: ${mode}
  priority: ${from === 'api' ? 100 : 200}
  from: [{ serviceAccount: billing/${from} }]
  to: [{ serviceAccount: billing/db }]
  ports: [5432]
`;
}

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let controller: RunningController;
let bus: Bus;

before(async () => {
  directory = await temporaryDirectory();
  controller = await startedController(join(directory.path, 'state'));
  assert.equal((await culvert(workloads + denyRule('audit', 'shell'), 'apply', '-f', '-')).code, 0);
  bus = await joinedBus();
  const flow = flowOf('api', 40);
  const batch = { run: '0123456789abcdef', sequence: 1, sentAtMs: Date.now(), notKept: 0, flows: [flow] };
  await bus.store(subjectFor('flows', nodeNamed(node)), encodeFlowBatch(batch), { timeoutMs: 5000 });
  await untilRecorded();
});
after(async () => {
  await bus.close();
  await controller[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

async function joinedBus(): Promise<Bus> {
  const user = createUser();
  const { out: token } = await culvert('', 'token', 'create', '--node', node);
  const { csrPem } = await createCsr({ commonName: node });
  const body = { token: token.trim(), node, csrPem, natsUserPublicKey: user.publicKey, version: 'test' };
  const answer = await callApi(controller, 'POST', '/v1/join', { body, token: null });
  assert.equal(answer.status, 200, answer.text);
  const joined = joinResponseSchema.parse(answer.body);
  return connectBus({
    servers: joined.natsServers,
    tls: { caPem: joined.rootsPem, ...(joined.natsServerName === null ? {} : { servername: joined.natsServerName }) },
    auth: { kind: 'jwt', jwt: joined.natsJwt, seed: user.seed },
    name: node,
    inboxPrefix: inboxPrefixFor(nodeNamed(node)),
    signal: new AbortController().signal,
  });
}

function end(name: string): FlowParty {
  const identity = formatSpiffeId({ trustDomain: 'culvert.local', namespace: 'billing', serviceAccount: name });
  return { workload: workloadNamed(`billing/${name}`), identity, cidr: null };
}

function flowOf(source: string, connections: number): ReportedFlow {
  const lastSeenMs = Date.now() - 60_000;
  return {
    direction: 'outbound',
    source: end(source),
    destination: end('db'),
    port: 5432,
    verdict: 'allow',
    reason: 'OK',
    rule: 'Mesh/default',
    audited: source === 'shell' ? ['SegmentationRule/no-shell'] : [],
    revision: 1,
    connections,
    bytesSent: 1,
    bytesReceived: 1,
    firstSeenMs: lastSeenMs - 1000,
    lastSeenMs,
  };
}

/** Until the controller has read what was stored; the deadline is the test runner's. */
async function untilRecorded(count = 1): Promise<void> {
  for (const deadlineMs = Date.now() + 30_000; Date.now() < deadlineMs;) {
    const { body } = await callApi(controller, 'GET', '/v1/flows');
    if ((body as FlowsAnswer).flows.length >= count) return;
  }
  assert.fail('the controller has not read the records');
}

function culvert(stdin: string, ...argv: readonly string[]): Promise<CliRun> {
  return run(argv, { env: { CULVERT_CONTEXT: join(directory.path, 'state', 'admin.yaml') }, stdin });
}

// The steps follow one another, as a person would go.
describe('the tools for rules with recorded connections', () => {
  it('diff ends with 2 when a recorded connection would be denied, and with 0 without records', async () => {
    const broken = await culvert(denyRule('enforce', 'api'), 'diff', '-f', '-', '--flows');
    assert.equal(broken.code, 2, broken.err);
    assert.match(
      broken.out,
      /^Newly denied:\nFROM .*\nbilling\/api +billing\/db +5432 +Mesh\/default -> SegmentationRule\/no-api$/m,
    );
    assert.match(broken.out, /WOULD BREAK[^]*billing\/api +billing\/db +5432 +40 +1 +1m ago/);
    assert.equal((await culvert(denyRule('enforce', 'api'), 'diff', '-f', '-')).code, 0);
    assert.equal((await culvert(denyRule('enforce', 'shell'), 'diff', '-f', '-', '--flows')).code, 0);
    const same = await culvert(denyRule('audit', 'shell'), 'diff', '-f', '-');
    assert.match(same.out, /Nothing changes/);
  });

  it('learn writes the same rules twice, which break nothing', async () => {
    const first = await culvert('', 'learn', '--since', '1h');
    const second = await culvert('', 'learn', '--since', '1h');
    assert.equal(first.code, 0, first.err);
    assert.equal(first.out, second.out);
    assert.match(first.out, /mode: audit/);
    const enforced = first.out.replaceAll('mode: audit', 'mode: enforce');
    assert.equal((await culvert(enforced, 'diff', '-f', '-', '--flows')).code, 0);
  });

  it('promote enforces an audited rule that breaks nothing', async () => {
    const { code, out, err } = await culvert('', 'promote', 'no-shell');
    assert.equal(code, 0, err);
    assert.match(out, /^SegmentationRule\/no-shell configured\nrevision \d+$/);
    const again = await culvert('', 'promote', 'no-shell');
    assert.equal(again.code, 1);
    assert.match(again.err, /already enforced/);
    assert.equal((await culvert('', 'promote', 'no-such')).code, 4);
  });

  it('why names the near misses and who applied the rule', async () => {
    const admins = denyRule('enforce', 'admin').replace('action: deny', 'action: allow\n  tier: platform');
    assert.equal((await culvert(admins, 'apply', '-f', '-')).code, 0);
    const { out } = await culvert('', 'why', 'billing/shell', 'billing/db:5432');
    assert.match(out, /^DENIED/);
    assert.match(
      out,
      /\nNear misses:\n {2}billing\/db would allow it if the source's service account were billing\/admin /,
    );
    assert.match(out, /SegmentationRule\/no-shell, applied by admin \S+ ago with revision \d+$/);
  });

  it('allow breaks the glass for a time, and status lists it', async () => {
    const argv = ['allow', 'billing/shell', 'billing/db:5432', '--for', '2h', '--reason', 'INC-42'];
    const { code, out, err } = await culvert('', ...argv);
    assert.equal(code, 0, err);
    assert.doesNotMatch(err, /it is still denied/);
    const revoke = /revoke it with: culvert (.*)$/.exec(out)?.[1] ?? '';
    assert.match((await culvert('', 'why', 'billing/shell', 'billing/db:5432')).out, /^ALLOWED/);
    assert.match(
      (await culvert('', 'status')).out,
      /BREAK-GLASS RULE[^]*break-glass-\S+ +(?:2h|1h 59m) +INC-42 +admin/,
    );
    assert.equal((await culvert('', ...revoke.split(' '))).code, 0);
    assert.match((await culvert('', 'why', 'billing/shell', 'billing/db:5432')).out, /^DENIED/);
    const typo = await culvert('', 'allow', 'billing/shel', 'billing/db:5432', '--for', '2h', '--reason', 'x');
    assert.equal(typo.code, 4);
    assert.match(typo.err, /did you mean billing\/shell/);
  });

  it('promote names the audited rules that must be enforced together, and enforces them in one revision', async () => {
    const spec = (fields: string): string => `spec: { mode: audit, to: [{ workload: billing/db }], ${fields} }`;
    const rule = (name: string, fields: string): string =>
      `apiVersion: culvert.dev/v1\nkind: SegmentationRule\nmetadata: { name: ${name} }\n${spec(fields)}\n`;
    const allow = rule('api-to-db', 'priority: 800, action: allow, from: [{ serviceAccount: billing/api }]');
    const applied = await culvert(
      `${allow}---\n${rule('deny-others', 'priority: 900, action: deny')}`,
      'apply',
      '-f',
      '-',
    );
    assert.equal(applied.code, 0, applied.err);
    const alone = await culvert('', 'promote', 'deny-others');
    assert.equal(alone.code, 1);
    assert.match(alone.err, /WOULD_BREAK/);
    assert.match(alone.err, /only audited; promote them together: culvert promote api-to-db deny-others/);
    const { code, out, err } = await culvert('', 'promote', 'api-to-db', 'deny-others');
    assert.equal(code, 0, err);
    assert.match(out, /api-to-db configured\nSegmentationRule\/deny-others configured\nrevision \d+$/);
    for (const name of ['api-to-db', 'deny-others']) {
      assert.equal((await culvert('', 'delete', 'SegmentationRule', name)).code, 0);
    }
  });

  it('promote refuses what would break, unless it is forced', async () => {
    assert.equal((await culvert(denyRule('audit', 'api'), 'apply', '-f', '-')).code, 0);
    const refused = await culvert('', 'promote', 'no-api');
    assert.equal(refused.code, 1);
    assert.match(refused.err, /would break:[^]*billing\/api[^]*WOULD_BREAK/);
    assert.equal((await culvert('', 'promote', 'no-api', '--force')).code, 0);
    assert.match((await culvert('', 'get', 'rule', 'no-api', '-o', 'yaml')).out, /mode: enforce/);
  });

  it('audit shows what would have been denied', async () => {
    const batch = {
      run: '0123456789abcdef',
      sequence: 2,
      sentAtMs: Date.now(),
      notKept: 0,
      flows: [flowOf('shell', 3)],
    };
    await bus.store(subjectFor('flows', nodeNamed(node)), encodeFlowBatch(batch), { timeoutMs: 5000 });
    await untilRecorded(2);
    const { code, out } = await culvert('', 'audit');
    assert.equal(code, 0);
    assert.match(out, /^SegmentationRule\/no-shell would have denied 3 connections, the last 1m ago\n/);
    assert.match(out, /\nbilling\/shell +billing\/db +5432 +3 +1 +1m ago +its agent$/);
  });

  it('matrix shows which workloads reach which, and the blast radius of one', async () => {
    const { code, out } = await culvert('', 'matrix');
    assert.equal(code, 0);
    assert.match(out, /^FROM +TO +PORTS +RULE/);
    const radius = await culvert('', 'matrix', '--blast-radius', 'billing/shell', '--hops', '1');
    assert.match(radius.out, /^1 +billing\/api +billing\/shell +any +Mesh\/default/m);
    assert.equal((await culvert('', 'matrix', '--blast-radius', 'billing/shel')).code, 4);
  });

  it('lint finds a rule that never decides', async () => {
    const shadowed = denyRule('enforce', 'api').replace('no-api', 'again').replace('priority: 100', 'priority: 300');
    assert.equal((await culvert(shadowed, 'apply', '-f', '-')).code, 0);
    const { code, out } = await culvert('', 'lint', '-o', 'json');
    assert.equal(code, 0);
    const findings = JSON.parse(out) as { kind: string; resource: string }[];
    assert.ok(
      findings.some(({ kind, resource }) => kind === 'shadowed' && resource === 'SegmentationRule/again'),
      out,
    );
  });
});
