import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import type { AuditList, CaStatusAnswer, StatusAnswer } from '../../../../../controller/api/api-types.js';
import { subjectFor } from '../../../../../shared/bus/subjects.js';
import { formatSpiffeId } from '../../../../../shared/identity.js';
import { certificateHash } from '../../../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../../../shared/pki/certificate-request.js';
import { problemOfIssued } from '../../../../../shared/pki/issued-certificate.js';
import { signResponseSchema } from '../../../../../shared/wire/requests.js';
import {
  apply,
  callApi,
  documents,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../../../support/controller/controller-fixture.js';
import { ask, join, joinedBus, newToken } from '../../../../support/controller/joined-agent.js';
import { hostA } from '../../../../support/issuer/external-mesh.js';
import { FakeVault } from '../../../../support/issuer/fake-vault.js';

const trustDomain = 'culvert.local';
const identity = formatSpiffeId({ trustDomain, namespace: 'billing', serviceAccount: 'api' });

test('hosts join and get certificates from a controller whose issuer is Vault, and its users see how the issuer is', async () => {
  await using vault = await FakeVault.start(trustDomain);
  await using directory = await temporaryDirectory();
  const changes = {
    issuer: 'vault',
    vaultAddress: vault.server.url,
    issuerCaFile: vault.server.caFile,
    issuerRootsFile: await vault.server.file('roots.pem', vault.ca.root.rootPem),
    issuerCredentialFile: await vault.server.file('token', vault.token()),
  } as const;
  const root = certificateHash(vault.ca.root.rootPem);
  let token = '';
  {
    await using controller = await startedController(path.join(directory.path, 'state'), { changes });
    assert.equal(certificateHash(controller.caPem), root);
    const placed = documents(workloadDocument('billing', 'api', { ip: '198.18.1.1', node: hostA }));
    assert.equal((await apply(controller, placed)).status, 200);
    await using agent = await joinedBus(controller, hostA);
    const { csrPem, privateKeyPem: keyPem } = await createCsr({ identity });
    const request = { requests: [{ identity, csrPem }] };
    const answer = await ask(agent, subjectFor('sign', hostA), request, signResponseSchema);
    const [issued] = answer.certificates;
    assert.ok(issued !== undefined && 'chainPem' in issued);
    const { chainPem } = issued;
    assert.equal(problemOfIssued({ chainPem, keyPem, spiffeId: identity, rootsPem: answer.rootsPem }), null);

    const { body } = await callApi(controller, 'GET', '/v1/ca/status');
    assert.deepEqual((body as CaStatusAnswer).issuer?.problem, null);
    assert.equal((body as CaStatusAnswer).issuing.root, root);
    vault.isSealed = true;
    token = await newToken(controller, 'host-b');
    const refused = await join(controller, token, 'host-b');
    assert.deepEqual([refused.status, (refused.body as { code: string }).code], [503, 'ISSUER_SEALED']);
    const status = (await callApi(controller, 'GET', '/v1/status')).body as StatusAnswer;
    assert.match(status.controller.issuer?.problem ?? '', /Vault is sealed \(unseal it/);
    const { text } = await callApi(controller, 'GET', '/metrics', { token: null });
    assert.match(text, /^culvert_controller_issuer_up 0$/m);
    assert.match(text, /^culvert_controller_issuer_requests_total\{outcome="ISSUER_SEALED"\} [1-9]/m);
  }

  // The issuer is still sealed: rules are served, and a token that a refused join named is still good afterwards.
  const both = vault.ca.root.rootPem;
  await vault.ca.change({ isNewRoot: true });
  await vault.server.file('roots.pem', both + vault.ca.root.rootPem);
  await using controller = await startedController(path.join(directory.path, 'state'), { changes });
  vault.isSealed = false;
  assert.equal((await join(controller, token, 'host-b')).status, 200);
  const { body } = await callApi(controller, 'GET', '/v1/audit-log?action=ca');
  assert.deepEqual(
    (body as AuditList).requests.map(({ action, user }) => [action, user]),
    [
      ['ca.roots', 'system'],
      ['ca.roots', 'system'],
    ],
    'the operator has named another root, and the issuer signs under it',
  );
});
