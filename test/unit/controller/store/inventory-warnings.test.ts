import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkInventory } from '../../../../controller/store/check-inventory.js';
import { planInventoryApply, planInventoryDelete } from '../../../../controller/store/plan-inventory.js';
import { ruleDependencies } from '../../../../controller/store/rule-dependencies.js';
import { RevisionCompiler } from '../../../../controller/release/compiled-revision.js';
import { emptyState } from '../../../../controller/release/committed-state.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import type { Problem } from '../../../../controller/resources/kinds/problem.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { documents, workloadDocument } from '../../../support/controller/controller-fixture.js';
import { inventoryDirectory, trustDomain } from '../../../support/controller/inventory-fixture.js';

function service(name: string, vip: string, app: string): string {
  const spec = { vips: [vip], ports: [{ port: 80 }], selector: { app } };
  return JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name },
    spec,
  });
}

test('a workload that goes is held against the services that it was an endpoint of, and no others', async () => {
  await using directory = await inventoryDirectory();
  await using inventory = await directory.open({ isNew: true });
  const built = new RevisionCompiler({ trustDomain, privateKeyPem: generateSigningKey().privateKey }).build(
    emptyState,
    [],
  );
  assert.ok('release' in built);
  const rules = ruleDependencies(built.release);
  const { resources, locations } = parseDocuments(
    documents(
      workloadDocument('shop', 'last', { ip: '198.18.0.1', labels: { app: 'web' } }),
      workloadDocument('shop', 'one', { ip: '198.18.0.2', labels: { app: 'api' } }),
      workloadDocument('shop', 'two', { ip: '198.18.0.3', labels: { app: 'api' } }),
      service('web', '198.18.9.1', 'web'),
      service('api', '198.18.9.2', 'api'),
      service('early', '198.18.9.3', 'not-there-yet'),
    ),
  );
  const author = { by: 'test', nowMs: 0 };
  const { change } = planInventoryApply({ inventory, trustDomain, resources, locations, author });
  const warned = (problems: readonly Problem[]) => problems.map(({ severity, resource }) => `${severity} ${resource}`);
  const applied = await inventory.change(
    'documents',
    () => change,
    (made) => ({ isKept: true, value: checkInventory({ inventory, applied: made, rules, locations }) }),
  );
  assert.deepEqual(warned(applied), ['warning Service/shop/early']);
  const without = async (name: string): Promise<string[]> => {
    const plan = planInventoryDelete([{ kind: 'Workload', namespace: 'shop', name }]);
    const problems = await inventory.change(
      'documents',
      () => plan.change,
      (made) => ({ isKept: true, value: checkInventory({ inventory, applied: made, rules, locations }) }),
    );
    return warned(problems);
  };
  assert.deepEqual(await without('one'), []);
  assert.deepEqual(await without('last'), ['warning Service/shop/web']);
});
