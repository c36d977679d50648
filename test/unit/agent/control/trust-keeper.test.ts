import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { NodeCredentials } from '../../../../agent/control/credentials/node-credentials.js';
import { TrustKeeper } from '../../../../agent/control/credentials/trust-keeper.js';
import {
  createIssuingCa,
  createRootCa,
  type CertificateAuthority,
} from '../../../../controller/ca/x509/certificate-authority.js';
import { issueNodeCertificate, issueWorkloadCertificate } from '../../../../controller/ca/x509/mesh-certificates.js';
import type { SpiffeId } from '../../../../shared/identity.js';
import { createLog } from '../../../../shared/log.js';
import { certificateHash } from '../../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { joinCertificates } from '../../../../shared/pki/pem.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';
import { nodeNamed } from '../../../support/routing/names.js';

const trustDomain = 'mesh.test';
const identity = `spiffe://${trustDomain}/ns/shop/sa/web` as SpiffeId;
const ttlMs = 3_600_000;
const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });

type Ca = { readonly root: CertificateAuthority; readonly issuing: CertificateAuthority; readonly hash: string };

async function newCa(): Promise<Ca> {
  const root = await createRootCa({ trustDomain });
  return { root, issuing: await createIssuingCa({ root, trustDomain }), hash: certificateHash(root.rootPem) };
}
const [old, fresh] = [await newCa(), await newCa()];

class Fixture {
  readonly scheduler = new FakeScheduler();
  readonly asked: string[] = [];
  current!: NodeCredentials;
  certificates: { identity: SpiffeId; chainPem: string; keyPem: string; notAfterMs: number; obtainedAtMs: number }[] =
    [];
  readonly keeper: TrustKeeper;

  private constructor() {
    const fixture = (): this => this;
    this.keeper = new TrustKeeper({
      credentials: {
        get current() {
          return fixture().current;
        },
        renewSoon: () => void this.asked.push('node'),
      },
      certificates: {
        get certificates() {
          return fixture().certificates;
        },
        renewSoon: (identities) => void this.asked.push(...identities),
      },
      scheduler: this.scheduler,
      log,
    });
  }

  static async start(): Promise<Fixture> {
    const fixture = new Fixture();
    await fixture.hold(old, [old]);
    open.push(fixture);
    return fixture;
  }

  /** Node and workload have certificates of `under`, and the host trusts `trusted`. */
  async hold(under: Ca, trusted: readonly Ca[]): Promise<void> {
    const { csrPem, privateKeyPem: keyPem } = await createCsr({ identity });
    const issuer = under.issuing;
    const node = await issueNodeCertificate({ issuer, csrPem, trustDomain, node: nodeNamed('host-a'), ttlMs });
    const workload = await issueWorkloadCertificate({ issuer, csrPem, identity, ttlMs });
    const rootsPem = joinCertificates(trusted.map(({ root }) => root.rootPem));
    this.current = { nodeCertificatePem: node.chainPem, rootsPem } as NodeCredentials;
    const { chainPem, notAfterMs } = workload;
    this.certificates = [{ identity, chainPem, keyPem, notAfterMs, obtainedAtMs: 0 }];
  }
}
const open: Fixture[] = [];
after(() => {
  for (const { keeper } of open) keeper.close();
});

test('the report says which roots are trusted and which ones the certificates end at', async () => {
  const fixture = await Fixture.start();
  assert.deepEqual(fixture.keeper.report(), { trusts: [old.hash], proves: [old.hash] });
  await fixture.hold(fresh, [old, fresh]);
  assert.deepEqual(fixture.keeper.report(), { trusts: [old.hash, fresh.hash], proves: [fresh.hash] });
  await fixture.hold(fresh, [old]);
  assert.deepEqual(fixture.keeper.report(), { trusts: [old.hash], proves: [] }, 'no root of its own verifies them');
});

test('each step of a rotation renews what it makes necessary, and nothing else', async () => {
  const cases = [
    { what: 'nothing has changed', trusted: [old], under: old, hint: [old], signsUnder: old, asked: [] },
    { what: 'a root is prepared', trusted: [old], under: old, hint: [old, fresh], signsUnder: old, asked: ['node'] },
    {
      what: 'it is active',
      trusted: [old, fresh],
      under: old,
      hint: [fresh, old],
      signsUnder: fresh,
      asked: ['node', identity],
    },
    {
      what: 'the old one has gone',
      trusted: [old, fresh],
      under: fresh,
      hint: [fresh],
      signsUnder: fresh,
      asked: ['node'],
    },
  ];
  for (const { what, trusted, under, hint, signsUnder, asked } of cases) {
    const fixture = await Fixture.start();
    await fixture.hold(under, trusted);
    fixture.keeper.onHint({ roots: hint.map(({ hash }) => hash), signsUnder: signsUnder.hash });
    assert.deepEqual(fixture.asked, asked, what);
  }
});

test('a hint that is never met makes an agent renew less and less often', async () => {
  const fixture = await Fixture.start();
  const startedAtMs = fixture.scheduler.nowMs();
  const forged = { roots: [fresh.hash], signsUnder: fresh.hash };
  fixture.keeper.onHint(forged);
  const times: number[] = [];
  while (fixture.scheduler.nowMs() - startedAtMs < 3_600_000) {
    fixture.keeper.onHint(forged);
    const before = fixture.asked.length;
    fixture.scheduler.runNext();
    if (fixture.asked.length > before) times.push(fixture.scheduler.nowMs() - startedAtMs);
  }
  assert.ok(times.length <= 12, `${times.length} renewals in an hour`);
  assert.ok((times[0] ?? 0) >= 15_000);
});
