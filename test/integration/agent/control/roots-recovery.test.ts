import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import type { NodeCredentials } from '../../../../agent/control/credentials/node-credentials.js';
import { RootsRecovery } from '../../../../agent/control/join/roots-recovery.js';
import { systemScheduler } from '../../../../agent/thread/scheduler.js';
import { openReleaseKey } from '../../../../controller/release/release-key.js';
import { createRootCa } from '../../../../controller/ca/x509/certificate-authority.js';
import { createLog } from '../../../../shared/log.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { Inbox } from '../../../support/bus/bus-deadline.js';
import { callApi, startedController, temporaryDirectory } from '../../../support/controller/controller-fixture.js';

const nonce = 'A'.repeat(32);

test('an agent takes the roots that the controller signed for its question, and none that another key signed', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'controller');
  await using controller = await startedController(stateDir);
  const { publicKey } = await openReleaseKey(stateDir);
  const { rootPem: rootsPem } = await createRootCa({ trustDomain: 'culvert.local' });
  const credentials = { rootsPem, controllerUrl: controller.url } as NodeCredentials;
  const lines = new Inbox<string>();
  const roots = new Inbox<string>();
  const log = createLog({ name: 'test', level: 'debug', stream: { write: lines.push } });
  const recoveryWith = (pinned: string): RootsRecovery =>
    new RootsRecovery({
      credentials: () => ({ ...credentials, signingPublicKeys: [pinned] }),
      controllerUrl: null,
      scheduler: systemScheduler,
      log,
      onRoots: roots.push,
      onOtherKeys: () => otherKeys++,
    });
  let otherKeys = 0;

  const deceived = recoveryWith(generateSigningKey().publicKey);
  deceived.onUntrusted();
  await lines.until('the refusal', (seen) => seen.some((line) => line.includes('not signed with a key')));
  deceived.close();
  assert.deepEqual([roots.items, otherKeys], [[], 1]);

  const recovery = recoveryWith(publicKey);
  recovery.onUntrusted();
  recovery.onUntrusted();
  await roots.until('the roots', (seen) => seen.length > 0);
  recovery.close();
  assert.deepEqual([roots.items, otherKeys], [[controller.caPem], 1]);

  const [first, second] = await Promise.all(
    [nonce, 'B'.repeat(32)].map((text) => callApi(controller, 'GET', `/v1/ca?nonce=${text}`, { token: null })),
  );
  assert.notDeepEqual(first?.body, second?.body, 'an answer fits no other question');
  const malformed = await callApi(controller, 'GET', '/v1/ca?nonce=short', { token: null });
  assert.equal(malformed.status, 400);
});
