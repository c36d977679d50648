import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { culvert } from '../../support/controller/cli-fixture.js';
import { startedController, temporaryDirectory } from '../../support/controller/controller-fixture.js';

/** The services that the page speaks of. */
const service = `
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: db, namespace: billing, labels: { app: db } }
spec: { serviceAccount: db, addresses: [198.18.0.1] }
---
apiVersion: culvert.dev/v1
kind: Service
metadata: { name: db, namespace: billing }
spec: { vips: [198.19.0.1], ports: [{ port: 5432 }, { port: 9187 }], selector: { app: db } }
---
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: ledger, namespace: billing, labels: { app: ledger, version: v1 } }
spec: { serviceAccount: ledger, addresses: [198.18.0.2] }
---
apiVersion: culvert.dev/v1
kind: Service
metadata: { name: ledger, namespace: billing }
spec: { vips: [198.19.0.2], ports: [{ port: 80 }], selector: { app: ledger } }
`;

test('a controller takes every document of deploy/docs/traffic.md, without a warning, and shows it', async () => {
  const guide = await readFile('deploy/docs/traffic.md', 'utf8');
  const blocks = [...guide.matchAll(/^```yaml\n([^]*?)^```$/gm)].map(([, body = '']) => body);
  assert.ok(blocks.length >= 3);
  await using directory = await temporaryDirectory();
  const state = path.join(directory.path, 'state');
  await using _controller = await startedController(state);
  const run = (argv: readonly string[], stdin = '') =>
    culvert(argv, { env: { CULVERT_CONTEXT: path.join(state, 'admin.yaml') }, stdin });
  assert.equal((await run(['apply', '-f', '-'], service)).code, 0);
  for (const block of blocks) {
    const { code, out, err } = await run(['apply', '-f', '-'], block);
    assert.equal(code, 0, `${err}\n${block}`);
    assert.doesNotMatch(`${out}${err}`, /warning/i, block);
  }
  const { out } = await run(['get', 'destinationrules']);
  assert.match((await run(['get', 'virtualservices'])).out, /ledger +replicas,v1:90\/v2:10/);
  for (const name of ['db', 'everything', 'db-for-reports', 'ledger']) assert.match(out, new RegExp(`\\b${name}\\b`));
});

test('a document of the page with a field that is not served is refused, and the one before stays', async () => {
  await using directory = await temporaryDirectory();
  const state = path.join(directory.path, 'state');
  await using _controller = await startedController(state);
  const run = (argv: readonly string[], stdin = '') =>
    culvert(argv, { env: { CULVERT_CONTEXT: path.join(state, 'admin.yaml') }, stdin });
  const rule = (rest: string) =>
    `{ apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: { name: db, namespace: billing }, spec: { host: db${rest} } }\n`;
  assert.equal((await run(['apply', '-f', '-'], service + `---\n${rule('')}`)).code, 0);
  const refused = await run(['apply', '-f', '-'], rule(', trafficPolicy: { outlierDetection: {} }'));
  assert.equal(refused.code, 1);
  assert.match(refused.err, /spec\.trafficPolicy\.outlierDetection: is not supported/);
  const { out } = await run(['get', 'destinationrule', 'billing/db', '-o', 'yaml']);
  assert.doesNotMatch(out, /outlier/);
  assert.match(out, /host: db/);
});
