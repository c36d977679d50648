import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { auditPackages } from '../../house/audit-packages.js';
import { productionPackages, readDependencies } from '../../house/dependencies.js';

const root = path.resolve(import.meta.dirname, '../../../..');

describe('the audit of packages', () => {
  it('finds a grave vulnerability of a production package, and lists a small one', async (t) => {
    const registry = await startRegistry(t, advisoriesOf({ yaml: 'high', pino: 'low' }));
    const result = await auditPackages({ directory: root, registry });
    assert.equal(result.kind, 'answered');
    assert.deepEqual(result.grave, ['yaml: high: a bad yaml (https://example.com/yaml)']);
    assert.deepEqual(result.other, ['pino: low: a bad pino (https://example.com/pino)']);
  });

  it('does not count what only the build needs', async (t) => {
    const registry = await startRegistry(t, advisoriesOf({ esbuild: 'critical' }));
    assert.deepEqual(await auditPackages({ directory: root, registry }), { kind: 'answered', grave: [], other: [] });
  });

  it('says that a registry refuses, fails to speak or is not there', async (t) => {
    const refusing = await startRegistry(t, (_, response) => response.writeHead(405).end());
    const speechless = await startRegistry(t, (_, response) => response.end('<html>'));
    for (const registry of [refusing, speechless, 'http://127.0.0.1:1']) {
      const result = await auditPackages({ directory: root, registry });
      assert.equal(result.kind, 'unanswered');
      assert.notEqual(result.why, '');
    }
  });

  it('gives up on a registry that is silent', async (t) => {
    const registry = await startRegistry(t, () => undefined);
    const result = await auditPackages({ directory: root, registry, timeoutMs: 3000 });
    assert.deepEqual(result, { kind: 'unanswered', why: 'no answer in 3 s' });
  });
});

it('the bill of materials has every production package with checksum and licence', () => {
  const bill = JSON.parse(execFileSync(process.execPath, ['deploy/sbom.mjs'], { cwd: root, encoding: 'utf8' })) as Bill;
  assert.equal(bill.bomFormat, 'CycloneDX');
  assert.equal(bill.metadata.component.name, 'culvert');
  assert.equal(bill.metadata.component.type, 'application');
  assert.deepEqual(
    bill.components.map(({ name, version }) => `${name} ${version}`).toSorted(),
    productionPackages(readDependencies(root))
      .map(([name, version]) => `${name} ${version}`)
      .toSorted(),
  );
  for (const { name, hashes, licenses } of bill.components) {
    assert.match(hashes[0]?.content ?? '', /^[0-9a-f]{128}$/, name);
    assert.equal(licenses.length, 1, name);
  }
});

type Bill = {
  readonly bomFormat: string;
  readonly metadata: { readonly component: { readonly name: string; readonly type: string } };
  readonly components: readonly {
    readonly name: string;
    readonly version: string;
    readonly hashes: readonly { readonly content: string }[];
    readonly licenses: readonly unknown[];
  }[];
};

/** A registry that speaks the service that `npm audit` asks; the server ends with the test. */
async function startRegistry(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Answers with one advisory for all versions of each package that is named. */
function advisoriesOf(severities: Readonly<Record<string, string>>): RequestListener {
  return (request, response) => {
    request.resume();
    if (request.url === '/-/npm/v1/security/advisories/bulk') {
      const advisories = Object.entries(severities).map(([name, severity], id) => [
        name,
        [{ id, url: `https://example.com/${name}`, title: `a bad ${name}`, severity, vulnerable_versions: '<=99' }],
      ]);
      response.end(JSON.stringify(Object.fromEntries(advisories)));
    } else response.writeHead(404).end('{}');
  };
}
