import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { kindNames } from '../../../controller/resources/kinds/resource.js';
import { culvert } from '../../support/controller/cli-fixture.js';
import { startedController, temporaryDirectory } from '../../support/controller/controller-fixture.js';
import { joinNodes } from '../../support/controller/joined-agent.js';

test('a controller takes every example of the reference, without a warning, and decides what its PolicyTest says', async () => {
  await using directory = await temporaryDirectory();
  const state = path.join(directory.path, 'state');
  await using controller = await startedController(state);
  await joinNodes(controller, 'host-a', 'host-b');
  const env = { CULVERT_CONTEXT: path.join(state, 'admin.yaml') };
  const applied = await culvert(['apply', '-f', 'deploy/docs/examples'], { env });
  assert.equal(applied.code, 0, applied.err);
  assert.doesNotMatch(`${applied.out}${applied.err}`, /warning/i);
  const kinds = new Set([...applied.out.matchAll(/^(\w+)\/\S+ created/gm)].map(([, kind]) => kind));
  assert.equal(kinds.size, kindNames.length, applied.out);
  const tested = await culvert(['test', '-f', 'deploy/docs/examples']);
  assert.equal(tested.code, 0, `${tested.out}${tested.err}`);
});
