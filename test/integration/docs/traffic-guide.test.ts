import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { culvert } from '../../support/controller/cli-fixture.js';
import { startedController, temporaryDirectory } from '../../support/controller/controller-fixture.js';

/** A service, and the workload behind it. */
function serving(at: number, name: string, o: { ports: string; account?: string; labels?: string }): string {
  return `
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: ${name}, namespace: billing, labels: { app: ${name}${o.labels ?? ''} } }
spec: { serviceAccount: ${o.account ?? name}, addresses: [198.18.0.${at}] }
---
apiVersion: culvert.dev/v1
kind: Service
metadata: { name: ${name}, namespace: billing }
spec: { vips: [198.19.0.${at}], ports: [${o.ports}], selector: { app: ${name} } }
`;
}

/** The services that the page speaks of. */
const service = [
  serving(1, 'db', { ports: '{ port: 5432 }, { port: 9187 }' }),
  serving(2, 'ledger', { ports: '{ port: 80 }', labels: ', version: v1' }),
  serving(7, 'orders', { ports: '{ port: 80 }' }),
  serving(8, 'orders-v2', { ports: '{ port: 80 }', account: 'orders' }),
  serving(9, 'sessions', { ports: '{ port: 6379 }' }),
  serving(10, 'sessions-next', { ports: '{ port: 6379 }', account: 'sessions' }),
].join('---');

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
  assert.match(
    (await run(['get', 'ratelimits'])).out,
    /ledger +ledger +80 +ns:billing +pair +12 a second \(burst 20\), 50 open/,
  );
  const client = `{ apiVersion: culvert.dev/v1, kind: Workload, metadata: { name: api, namespace: billing, labels: { app: ledger } }, spec: { serviceAccount: api, addresses: [198.18.0.3] } }\n`;
  assert.equal((await run(['apply', '-f', '-'], client)).code, 0);
  const limits = (await run(['routes', 'billing/api', 'billing/ledger'])).out;
  assert.match(limits, /limit +RateLimit\/billing\/exports: 10000000 bytes a second each way to billing\/ledger:80$/m);
  assert.match(
    limits,
    /limit +RateLimit\/billing\/ledger: 12 a second \(burst 20\), 50 open from billing\/api to billing\/ledger:80$/m,
  );
  assert.match(
    limits,
    /limit +RateLimit\/istio-system\/everything: 200 a second \(burst 1000\) from billing\/api \(audit\)$/m,
  );
  assert.match((await run(['get', 'virtualservices'])).out, /ledger +replicas,v1:90\/v2:10/);
  assert.match((await run(['get', 'tcproutes'])).out, /billing +orders +orders:80 +orders:80=90\/orders-v2:80=10/);
  const staging = `{ apiVersion: culvert.dev/v1, kind: Workload, metadata: { name: shop, namespace: billing, labels: { tier: staging } }, spec: { serviceAccount: shop, addresses: [198.18.0.5] } }\n`;
  assert.equal((await run(['apply', '-f', '-'], staging)).code, 0);
  assert.match(
    (await run(['routes', 'billing/shop', 'billing/db:5432'])).out,
    /fault +delay of 2s for 20 % [^]*fault +abort for 0\.5 % [^]*fault +throttle to 65536 bytes a second each way for 10 % /,
  );
  assert.doesNotMatch((await run(['routes', 'billing/api', 'billing/db:5432'])).out, /fault/);
  assert.match(
    (await run(['routes', 'billing/api', 'billing/sessions'])).out,
    /mirror to billing\/sessions-next:6379 for 10 % of the connections$/m,
  );
  for (const name of ['db', 'everything', 'db-for-reports', 'ledger']) assert.match(out, new RegExp(`\\b${name}\\b`));
});

test('the page says what routes, endpoints, lint and diff show of its documents', async () => {
  await using directory = await temporaryDirectory();
  const state = path.join(directory.path, 'state');
  await using _controller = await startedController(state);
  const run = (argv: readonly string[], stdin = '') =>
    culvert(argv, { env: { CULVERT_CONTEXT: path.join(state, 'admin.yaml') }, stdin });
  const guide = await readFile('deploy/docs/traffic.md', 'utf8');
  const steered = [...guide.matchAll(/^```yaml\n([^]*?)^```$/gm)].find(([, body = '']) =>
    /kind: VirtualService/.test(body),
  );
  const client = `
---
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: api, namespace: billing, labels: { app: api } }
spec: { serviceAccount: api, addresses: [198.18.0.3] }
---
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: export, namespace: billing, labels: { job: export } }
spec: { serviceAccount: api, addresses: [198.18.0.4] }
`;
  assert.equal((await run(['apply', '-f', '-'], service + client)).code, 0);
  const without = await run(['routes', 'billing/api', 'billing/ledger']);
  assert.match(
    without.out,
    /route +none matches[^]*100 % +least-connections +billing\/ledger +198\.18\.0\.2:80 +100 %/,
  );
  assert.equal((await run(['apply', '-f', '-'], steered?.[1])).code, 0);

  const { out, code } = await run(['routes', 'sa:billing/api', 'billing/ledger:80']);
  assert.equal(code, 0);
  assert.match(
    out,
    /^billing\/api -> billing\/ledger at 198\.19\.0\.2:80\n +route +VirtualService\/billing\/ledger spec\.tcp\[1\]\n +rule +DestinationRule\/billing\/ledger\n/m,
  );
  assert.match(
    out,
    /v1 +90 % +least-connections +billing\/ledger +198\.18\.0\.2:80 +90 %\n +v2 +10 % +- +refused: has no endpoint for port 80/,
  );
  assert.match(out, /^billing\/export -> [^]*spec\.tcp\[0\][^]*replicas +100 % +- +refused/m);
  const json = await run(['routes', '198.18.0.3', '198.19.0.2', '-o', 'json']);
  assert.match(json.out, /"route": "VirtualService\/billing\/ledger spec\.tcp\[1\]"/);

  const endpoints = await run(['endpoints', 'billing/ledger']);
  assert.match(
    endpoints.out,
    /ENDPOINT +ADDRESS +STATE +NODE +ZONE +SUBSETS\nbilling\/ledger +198\.18\.0\.2:80 +ready +- +- +v1/,
  );
  const lint = await run(['lint']);
  assert.match(lint.out, /DestinationRule\/billing\/ledger: empty subset: the subset replicas matches no workload/);

  for (const [argv, expected, why] of [
    [['routes', 'billing/nix', 'billing/ledger'], 4, /no workload or service account is called billing\/nix/],
    [['routes', '198.18.9.9', 'billing/ledger'], 4, /no workload has the address 198\.18\.9\.9/],
    [
      ['routes', 'billing/api', 'billing/ledge'],
      4,
      /there is no service billing\/ledge \(did you mean billing\/ledger\?\)/,
    ],
    [['routes', 'billing/api', '198.18.0.2:80'], 4, /no service has the address 198\.18\.0\.2/],
    [['routes', 'billing/api', 'billing/db'], 64, /the service billing\/db has several ports.*5432, 9187/],
    [['endpoints', 'billing/db:1'], 64, /the service billing\/db has no port 1/],
    [['routes', 'api', 'billing/db:5432'], 64, /"api" is neither an IP address nor NAMESPACE\/NAME/],
  ] as const) {
    const failed = await run(argv);
    assert.equal(failed.code, expected, failed.err);
    assert.match(failed.err, why);
  }
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
  const refused = await run(['apply', '-f', '-'], rule(', trafficPolicy: { proxyProtocol: {} }'));
  assert.equal(refused.code, 1);
  assert.match(refused.err, /spec\.trafficPolicy\.proxyProtocol: is not supported/);
  const { out } = await run(['get', 'destinationrule', 'billing/db', '-o', 'yaml']);
  assert.doesNotMatch(out, /proxyProtocol/);
  assert.match(out, /host: db/);
});
