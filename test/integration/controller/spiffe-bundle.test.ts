import assert from 'node:assert/strict';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import tls from 'node:tls';
import type { BundleDocument } from '../../../controller/ca/spiffe-bundle.js';
import { rotateCa } from '../../../controller/ca/ca-commands.js';
import type { RunningController } from '../../../controller/app.js';
import { splitCertificates } from '../../../shared/pki/pem.js';
import { callApi, startedController, temporaryDirectory } from '../../support/controller/controller-fixture.js';

async function bundleOf(controller: RunningController): Promise<BundleDocument> {
  const answer = await callApi(controller, 'GET', '/v1/spiffe/bundle', { token: null });
  assert.equal(answer.status, 200, answer.text);
  return answer.body as BundleDocument;
}

test('the bundle has every root as a key of its own, and its sequence rises with every change of them', async () => {
  await using directory = await temporaryDirectory();
  const { path: stateDir } = directory;
  const place = { stateDir, trustDomain: 'culvert.local' };
  const seen: BundleDocument[] = [];
  const look = async (): Promise<BundleDocument> => {
    await using controller = await startedController(stateDir);
    const bundle = await bundleOf(controller);
    assert.deepEqual(await bundleOf(controller), bundle);
    const roots = splitCertificates(controller.caPem).map((pem) => new X509Certificate(pem));
    assert.deepEqual(
      bundle.keys.map(({ x5c }) => x5c),
      roots.map(({ raw }) => [raw.toString('base64')]),
    );
    for (const [index, { x5c: _, use, ...jwk }] of bundle.keys.entries()) {
      assert.equal(use, 'x509-svid');
      assert.ok(createPublicKey({ key: jwk, format: 'jwk' }).equals(roots[index]?.publicKey ?? assert.fail()));
    }
    assert.ok(Number.isSafeInteger(bundle.spiffe_sequence) && bundle.spiffe_refresh_hint > 0);
    seen.push(bundle);
    return bundle;
  };
  const first = await look();
  assert.deepEqual(await look(), first, 'as before after a restart');
  for (const step of ['prepare', 'activate', 'finish'] as const) {
    await rotateCa(place, step, { isForced: true });
    await look();
  }
  const sequences = seen.map((bundle) => bundle.spiffe_sequence);
  const [, , prepared = 0, activated = 0, finished = 0] = sequences;
  assert.ok(prepared > (sequences[0] ?? 0) && activated === prepared && finished > activated, String(sequences));
  await rm(path.join(stateDir, 'spiffe-bundle.json'));
  assert.ok((await look()).spiffe_sequence >= Math.floor(Date.now() / 1000) - 60);
});

test('the endpoint of the bundle proves itself with one SPIFFE ID of the trust domain', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  const socket = tls.connect({ host: '127.0.0.1', port: controller.port, ca: controller.caPem });
  await once(socket, 'secureConnect');
  const names = socket.getPeerX509Certificate()?.subjectAltName?.split(', ') ?? [];
  socket.destroy();
  assert.deepEqual(
    names.filter((name) => name.startsWith('URI:')),
    ['URI:spiffe://culvert.local/culvert/controller'],
  );
});
