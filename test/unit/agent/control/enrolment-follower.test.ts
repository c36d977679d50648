import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { EnrolmentFollower } from '../../../../agent/control/followers/enrolment-follower.js';
import { StateDirectory } from '../../../../agent/control/state/state-directory.js';
import { createLog } from '../../../../shared/log.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { sealNodeEnrolment, type NodeEnrolment } from '../../../../shared/wire/node-enrolment.js';
import { nodeNamed } from '../../../support/routing/names.js';

const key = generateSigningKey();
const keys = [key.publicKey];
const node = nodeNamed('node1');
const logged: string[] = [];
const log = createLog({ name: 'test', level: 'warn', stream: { write: (line) => void logged.push(line) } });
const first: NodeEnrolment = { version: 5, namespaces: ['shop'], outside: ['6e2c'] };
let directory: StateDirectory;
let folder = '';

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'culvert-enrolment-'));
  directory = new StateDirectory({ path: folder });
});
after(async () => await rm(folder, { recursive: true }));

function follower(inCharge: Promise<void> = Promise.resolve()): EnrolmentFollower {
  const onWriteFailed = (): void => assert.fail('it can be written');
  return new EnrolmentFollower({ node, directory, inCharge: () => inCharge, log, onWriteFailed });
}

function sealed(enrolment: NodeEnrolment, signer = key): Uint8Array {
  return sealNodeEnrolment({ node, enrolment, privateKeyPem: signer.privateKey });
}

test('the newest that the controller signed counts, is told, and is there again after a restart', async () => {
  const one = follower();
  let changes = 0;
  const stop = one.onChange(() => changes++);
  assert.equal(one.current, null);
  one.take(sealed(first), keys);
  one.take(sealed(first), keys);
  assert.deepEqual([one.current, changes], [first, 1]);
  // Each of these would let a pod start in the clear.
  one.take(sealed({ ...first, version: 4, namespaces: [] }), keys);
  one.take(sealed({ ...first, namespaces: [] }), keys);
  one.take(sealed({ ...first, version: 6, namespaces: [] }, generateSigningKey()), keys);
  one.take(Buffer.from('nothing'), keys);
  assert.deepEqual([one.current, changes], [first, 1]);
  assert.match(logged[0] ?? '', /its version 4 is not newer than 5/);
  assert.equal(logged.length, 4);
  stop();
  const second = { ...first, version: 6, outside: [] };
  one.take(sealed(second), keys);
  assert.deepEqual([one.current, changes], [second, 1]);
  await one.close();
  const next = follower();
  const found = await directory.readEnrolment(log);
  assert.ok(found !== undefined);
  next.restore(found, keys);
  assert.deepEqual(next.current, second);
  next.take(sealed(first), keys);
  assert.deepEqual(next.current, second);
  await next.close();
});

test('what is on disk stays another agent’s until this one is in charge', async () => {
  const before = await directory.readEnrolment(log);
  const waiting = follower(new Promise(() => undefined));
  waiting.take(sealed({ ...first, version: 9 }), keys);
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.deepEqual(await directory.readEnrolment(log), before);
});
