import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { patience } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { ownCluster } from '../../target.js';
import { InstalledCulvert } from './installed-culvert.js';
import { Shop } from './shop.js';

/** Rules as custom resources of the cluster, as an API server of its own judges and shows them. */
const cluster = ownCluster();
const { kubectl } = cluster;
const shop = new Shop(cluster);
const webToDb = 'from: [{ serviceAccount: shop/web }], to: [{ serviceAccount: shop/db }]';
let culvert: InstalledCulvert;

before(async () => {
  culvert = await shop.startInMesh(['--no-webhook']);
});
after(async () => {
  await culvert[Symbol.asyncDispose]();
  await shop[Symbol.asyncDispose]();
});

function document(kind: string, name: string, spec: string): string {
  return `apiVersion: culvert.dev/v1\nkind: ${kind}\nmetadata: { name: ${name} }\nspec: ${spec}\n`;
}

/** Whether web reaches db now. */
function reaches(): Promise<boolean> {
  return shop.isGreeted('shop/web');
}

async function becomes(isReached: boolean): Promise<void> {
  await waitUntil(isReached ? 'web reaches db' : 'web does not reach db', async () => {
    return (await reaches()) === isReached || undefined;
  });
}

async function inForce(name: string): Promise<void> {
  await kubectl.wait(['wait', '--for=condition=InForce', name], 30_000);
}

/** What the API server says when it refuses. */
async function refusal(text: string): Promise<string> {
  const { code, stderr } = await kubectl.run(['apply', '-f', '-'], { input: text });
  assert.notEqual(code, 0);
  return stderr;
}

test('a rule that kubectl applies is in force on every agent within seconds, and so is its end', async () => {
  await kubectl.apply(document('Mesh', 'default', '{ defaultAction: deny, mtls: STRICT }'));
  await becomes(false);
  const startedAt = performance.now();
  await kubectl.apply(document('SegmentationRule', 'web-to-db', `{ action: allow, ${webToDb} }`));
  await inForce('segmentationrule/web-to-db');
  const tookMs = performance.now() - startedAt;
  assert.ok(tookMs < 10_000 * patience(), `${tookMs} ms`);
  await becomes(true);
  const shown = await kubectl.succeed(['get', 'segmentationrules']);
  assert.match(shown, /NAME +TIER +PRIORITY +ACTION +MODE +ACCEPTED +IN FORCE +AGE/);
  assert.match(shown, /web-to-db +team +1000 +allow +enforce +True +2\/2 /);
  const all = await kubectl.succeed(['get', 'culvert', '-A', '-o', 'name']);
  assert.deepEqual(all.trim().split('\n').sort(), [
    'mesh.culvert.dev/default',
    'segmentationrule.culvert.dev/web-to-db',
  ]);
  assert.match(await culvert.culvert(['get', 'rules', '-o', 'wide']), /ORIGIN\n.* cluster/);
  await kubectl.succeed(['delete', 'sr', 'web-to-db']);
  await becomes(false);
  await kubectl.succeed(['delete', 'mesh', 'default']);
  await becomes(true);
});

test('the API server refuses what the definitions can say, in words and in CEL', async () => {
  assert.match(
    await refusal(document('SegmentationRule', 'bad', '{ action: perhaps }')),
    /Unsupported value: "perhaps"/,
  );
  assert.match(await refusal(document('Mesh', 'other', '{}')), /the only one is named default/);
  const alone = '{ action: allow, from: [{ segment: a, namespace: b }] }';
  assert.match(await refusal(document('SegmentationRule', 'bad', alone)), /segment stands alone/);
  const times = '{ action: allow, validFrom: "2027-01-02T00:00:00Z", expiresAt: "2027-01-01T00:00:00Z" }';
  assert.match(await refusal(document('SegmentationRule', 'bad', times)), /expiresAt must be later than validFrom/);
  const explained = await kubectl.succeed(['explain', 'segmentationrule.spec.from']);
  assert.match(explained, /Sources, as alternatives/);
});

test('what only the controller can judge is in the status, and stops no other rule', async () => {
  await kubectl.apply(document('SegmentationRule', 'misspelt', '{ action: allow, form: [{ namespace: shop }] }'));
  await kubectl.apply(document('SegmentationRule', 'dangling', '{ action: allow, from: [{ segment: batch }] }'));
  await kubectl.apply(document('SegmentationRule', 'good', '{ action: allow, ports: [70] }'));
  await inForce('segmentationrule/good');
  const wide = await waitUntil('both are refused', async () => {
    const text = await kubectl.succeed(['get', 'sr', '-o', 'wide']);
    return (/misspelt .* False /.test(text) && /dangling .* False /.test(text) && text) || undefined;
  });
  assert.match(wide, /spec\.form: is not a field here \(did you mean "from"\?\)/);
  assert.match(wide, /there is no Segment "batch"/);
  await kubectl.apply(document('Segment', 'batch', '{ members: [{ namespace: shop }] }'));
  await inForce('segmentationrule/dangling');
  await kubectl.succeed(['delete', 'sr', '--all']);
  await kubectl.succeed(['delete', 'seg', 'batch']);
});

test('a document and an object of the same name are a conflict that both sides are told', async () => {
  await culvert.culvert(['apply', '-f', '-'], document('SegmentationRule', 'both', '{ action: allow, ports: [70] }'));
  await kubectl.apply(document('SegmentationRule', 'both', '{ action: deny, ports: [22] }'));
  await kubectl.wait(['wait', '--for=jsonpath={.status.conditions[0].reason}=Conflict', 'sr/both'], 30_000);
  await waitUntil('culvert check tells', async () => {
    const found = (await culvert.checks()).some(({ message }) =>
      message.includes('SegmentationRule/both in the cluster'),
    );
    return found || undefined;
  });
  await culvert.culvert(['delete', 'SegmentationRule', 'both']);
  await inForce('sr/both');
  await assert.rejects(
    culvert.culvert(['delete', 'SegmentationRule', 'both']),
    /is a custom resource of the cluster, and is changed there only/,
  );
  await kubectl.succeed(['delete', 'sr', 'both']);
});

test('a definition that is deleted and made again takes no rule out until that is confirmed', async () => {
  const rule = document('SegmentationRule', 'web-to-db', `{ action: allow, ${webToDb} }`);
  await kubectl.apply(document('Mesh', 'default', '{ defaultAction: deny, mtls: STRICT }'));
  await kubectl.apply(rule);
  await inForce('sr/web-to-db');
  await becomes(true);
  await kubectl.succeed(['delete', 'crd', 'segmentationrules.culvert.dev', '--timeout=60s'], { timeoutMs: 90_000 });
  await waitUntil('culvert check tells', async () => {
    const said = (await culvert.checks()).map(({ message }) => message).join('\n');
    return /the cluster has no definition segmentationrules\.culvert\.dev any more/.test(said) || undefined;
  });
  for (let look = 0; look < 5; look++) assert.equal(await reaches(), true);
  assert.match(await culvert.culvert(['get', 'rules']), /web-to-db/);
  await kubectl.succeed(['apply', '--server-side', '-f', '-'], { input: await InstalledCulvert.definitions() });
  await waitUntil('culvert check tells how to confirm', async () => {
    const said = (await culvert.checks()).map(({ message }) => message).join('\n');
    return /segmentationrules\.culvert\.dev was made again at [^]*web-to-db/.test(said) || undefined;
  });
  assert.equal(await reaches(), true);
  const definition = 'customresourcedefinition/segmentationrules.culvert.dev';
  const uid = await kubectl.succeed(['get', definition, '-o', 'jsonpath={.metadata.uid}']);
  await kubectl.succeed(['annotate', '--overwrite', definition, `culvert.dev/confirm-deletions=${uid}`]);
  await becomes(false);
  await kubectl.apply(rule);
  await inForce('sr/web-to-db');
  await becomes(true);
  await kubectl.succeed(['delete', 'sr', 'web-to-db']);
  await kubectl.succeed(['delete', 'mesh', 'default']);
  await becomes(true);
});

test('an installation with the webhook has kubectl say at once what is wrong, and with Fail nothing passes it', async () => {
  await culvert.change(['--webhook-failure-policy', 'Fail', '--policies', 'NetworkPolicy']);
  const bad = document('SegmentationRule', 'misspelt', '{ action: allow, form: [{ namespace: shop }] }');
  const said = await waitUntil('kubectl is refused by the controller', async () => {
    const { code, stderr } = await kubectl.run(['apply', '-f', '-'], { input: bad });
    return (code !== 0 && /spec\.form/.test(stderr) && stderr) || undefined;
  });
  assert.match(said, /spec\.form: is not a field here \(did you mean "from"\?\)/);
  // In the order of the file, each right after the one before.
  const segment = document('Segment', 'batch', '{ members: [{ namespace: shop }] }');
  const rule = document('SegmentationRule', 'named', '{ action: allow, from: [{ segment: batch }] }');
  await kubectl.apply(`${segment}---\n${rule}`);
  await inForce('sr/named');
  // Applied again, the object of the installation leaves what the controller wrote into it.
  await culvert.applyAgain();
  assert.match(await refusal(bad), /spec\.form/);
  // What another changes of it is put right.
  const others = '[{"op":"replace","path":"/webhooks/0/rules/0/resources","value":["segments"]}]';
  await kubectl.succeed(['patch', 'validatingwebhookconfiguration', 'culvert', '--type=json', '-p', others]);
  await waitUntil('the API server asks about rules again', async () => {
    const { stderr } = await kubectl.run(['apply', '--dry-run=server', '-f', '-'], { input: bad });
    return stderr.includes('spec.form') || undefined;
  });
  const system = ['-n', 'culvert-system'];
  await kubectl.succeed([...system, 'scale', 'deployment/culvert-controller', '--replicas=0']);
  await kubectl.wait([...system, 'wait', '--for=delete', 'pod', '-l', 'app.kubernetes.io/component=controller']);
  const good = document('SegmentationRule', 'late', '{ action: allow, ports: [70] }');
  assert.match(await refusal(good), /failed calling webhook "rules\.culvert\.dev"/);
  await kubectl.succeed(['delete', 'sr', 'named']);
  await kubectl.succeed([...system, 'scale', 'deployment/culvert-controller', '--replicas=1']);
  await waitUntil('the rule is taken', async () => {
    return (await kubectl.run(['apply', '-f', '-'], { input: good })).code === 0 || undefined;
  });
  await inForce('sr/late');
  await kubectl.succeed(['delete', 'sr,seg', '--all']);
});

test('policies that the installation names are rules, with the rights that it gives for them', async () => {
  const policy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: shop }
spec: { podSelector: { matchLabels: { app: db } }, policyTypes: [Ingress] }
`;
  await kubectl.apply(policy);
  await waitUntil('the policy is a rule', async () => {
    return (await culvert.culvert(['get', 'networkpolicies', '-o', 'wide'])).includes('closed') || undefined;
  });
  const [line] = (await culvert.checks()).filter(({ check }) => check === 'kubernetes');
  assert.equal(line?.state, 'ok', line?.message);
  await kubectl.succeed(['delete', '-f', '-'], { input: policy });
});
