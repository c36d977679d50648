import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLabelSelector } from '../../../../controller/cli/input/label-selector.js';
import { namedIn } from '../../../../controller/cli/input/resource-name.js';

test('a label selector means what kubectl -l means', () => {
  const fits = (text: string, labels: Record<string, string>): boolean => parseLabelSelector(text).fits(labels);
  assert.ok(fits('app=api', { app: 'api', tier: 'x' }));
  assert.ok(fits('app==api,tier!=db', { app: 'api' }));
  assert.ok(!fits('app=api,tier!=db', { app: 'api', tier: 'db' }));
  assert.ok(fits('app, !old', { app: 'api' }));
  assert.ok(!fits('!app', { app: '' }));
  assert.ok(!fits('toString', {}));
  for (const text of ['', 'app=', '=x', 'a=b,', '!a=b', 'a in (b)']) {
    if (text === 'app=') assert.ok(fits(text, { app: '' }));
    else assert.throws(() => parseLabelSelector(text), { code: 'USAGE' }, text);
  }
});

test('a name may have its namespace in front, as commands print it', () => {
  assert.deepEqual(namedIn('Workload', 'shop/api', undefined), { namespace: 'shop', name: 'api' });
  assert.deepEqual(namedIn('Workload', 'shop/api', 'shop'), { namespace: 'shop', name: 'api' });
  assert.deepEqual(namedIn('Workload', 'api', undefined), { namespace: undefined, name: 'api' });
  assert.throws(() => namedIn('Workload', 'shop/api', 'billing'), { code: 'USAGE' });
  assert.throws(() => namedIn('Segment', 'shop/api', undefined), { code: 'USAGE' });
});
