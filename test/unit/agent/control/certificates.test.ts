import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { AnswerAlarm } from '../../../../agent/control/credentials/answer-alarm.js';
import { CertificateRotator } from '../../../../agent/control/credentials/certificate-rotator.js';
import { backoffMs } from '../../../../agent/thread/scheduler.js';
import type { SpiffeId } from '../../../../shared/identity.js';
import { createLog } from '../../../../shared/log.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import {
  createIssuingCa,
  createRootCa,
  type CertificateAuthority,
} from '../../../../controller/ca/x509/certificate-authority.js';
import { issueWorkloadCertificate } from '../../../../controller/ca/x509/mesh-certificates.js';
import type { SignRequest, SignResponse } from '../../../../shared/wire/requests.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';

const api = 'spiffe://test.local/ns/billing/sa/api' as SpiffeId;
const db = 'spiffe://test.local/ns/billing/sa/db' as SpiffeId;
const hourMs = 3_600_000;
const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });

let issuer: CertificateAuthority;
before(async () => {
  const root = await createRootCa({ trustDomain: 'test.local', now: 1_800_000_000_000 });
  issuer = await createIssuingCa({ root, trustDomain: 'test.local', now: 1_800_000_000_000 });
});

class Fixture {
  readonly scheduler = new FakeScheduler();
  readonly asked: SpiffeId[][] = [];
  readonly roots: string[] = [];
  ttlMs = 30_000;
  failure: string | null = null;
  refused: SpiffeId | null = null;
  swapIdentities = false;
  swapKeys = false;
  rootsPem: string | null = null;
  readonly alarms: AnswerAlarm[] = [];
  #answered: (() => void) | null = null;
  readonly keeper = new CertificateRotator({
    sign: (request) => this.#sign(request),
    scheduler: this.scheduler,
    renewJitterPercent: 10,
    log,
    onChange: () => this.#answered?.(),
    onRoots: (pem) => this.roots.push(pem),
    onAnswerRefused: (kind) => this.alarms.push(kind),
  });

  /** Runs the timer that is due next and waits until its request has been dealt with. */
  async step(): Promise<void> {
    const answered = new Promise<void>((resolve) => (this.#answered = resolve));
    this.scheduler.runNext();
    await answered;
    await new Promise((resolve) => setImmediate(resolve));
  }

  async #sign({ requests }: SignRequest): Promise<SignResponse> {
    this.asked.push(requests.map((request) => request.identity));
    if (this.failure !== null) throw new Error(this.failure);
    const certificates = await Promise.all(
      requests.map(async ({ identity, csrPem: asked }) => {
        if (identity === this.refused) {
          return { identity, error: { code: 'IDENTITY_FOREIGN', message: 'not on this node', hint: null } };
        }
        const subject = this.swapIdentities ? db : identity;
        const csrPem = this.swapKeys ? (await createCsr({ identity })).csrPem : asked;
        const now = this.scheduler.nowMs();
        const issued = await issueWorkloadCertificate({ issuer, csrPem, identity: subject, ttlMs: this.ttlMs, now });
        return { identity, chainPem: issued.chainPem, notAfterMs: issued.notAfterMs };
      }),
    );
    return { rootsPem: this.rootsPem ?? issuer.rootPem, certificates };
  }
}

const open: Fixture[] = [];
function newFixture(): Fixture {
  const fixture = new Fixture();
  open.push(fixture);
  return fixture;
}
after(() => {
  for (const fixture of open) fixture.keeper.close();
});

test('new identities share one request and are renewed at half of a 30 s life', async () => {
  const fixture = newFixture();
  fixture.keeper.setIdentities(new Set([api, db]));
  assert.equal(fixture.scheduler.nextInMs, 0);
  await fixture.step();
  assert.deepEqual(fixture.asked, [[api, db]]);
  assert.deepEqual(
    fixture.keeper.certificates.map((certificate) => certificate.identity),
    [api, db],
  );
  assert.equal(fixture.keeper.problemOf(api), null);
  assert.deepEqual(fixture.roots, [issuer.rootPem]);
  assert.equal(fixture.scheduler.nextInMs, 15_000);
  const firstKey = fixture.keeper.certificateOf(api)?.keyPem;
  await fixture.step();
  assert.notEqual(fixture.keeper.certificateOf(api)?.keyPem, firstKey, 'each certificate has a key of its own');
});

test('a host that slept past the renewal renews within a minute of waking up', async () => {
  const fixture = newFixture();
  fixture.ttlMs = 24 * hourMs;
  fixture.keeper.setIdentities(new Set([api]));
  await fixture.step();
  assert.ok((fixture.scheduler.nextInMs ?? 0) <= 60_000, 'the clock is looked at');
  fixture.scheduler.setClock(fixture.scheduler.nowMs() + 20 * hourMs);
  await fixture.step();
  assert.equal(fixture.asked.length, 2);
});

test('a certificate is renewed when the clock is set back to before it was obtained', async () => {
  const fixture = newFixture();
  fixture.ttlMs = 24 * hourMs;
  fixture.keeper.setIdentities(new Set([api]));
  fixture.scheduler.setClock(fixture.scheduler.nowMs() + 5 * hourMs);
  await fixture.step();
  fixture.scheduler.setClock(fixture.scheduler.nowMs() - 2 * hourMs);
  await fixture.step();
  assert.equal(fixture.asked.length, 2);
  assert.equal(fixture.keeper.certificateOf(api)?.obtainedAtMs, fixture.scheduler.nowMs());
});

test('a controller that is away is asked with growing pauses while the old certificate stays', async () => {
  const fixture = newFixture();
  fixture.keeper.setIdentities(new Set([api]));
  await fixture.step();
  const before = fixture.keeper.certificateOf(api);
  fixture.failure = 'NATS is away';
  const pauses: number[] = [];
  for (let attempt = 0; attempt < 6; attempt++) {
    await fixture.step();
    pauses.push(fixture.scheduler.nextInMs ?? 0);
  }
  assert.equal(fixture.keeper.certificateOf(api), before);
  assert.match(fixture.keeper.problemOf(api) ?? '', /NATS is away/);
  assert.ok(
    pauses.every((pause) => pause >= 500 && pause <= 2000),
    `short life, short pauses: ${pauses.join()}`,
  );
  fixture.failure = null;
  fixture.keeper.retryNow();
  assert.equal(fixture.scheduler.nextInMs, 0);
  await fixture.step();
  assert.notEqual(fixture.keeper.certificateOf(api), before);
  assert.equal(fixture.keeper.problemOf(api), null);
});

test('a refused identity does not spoil the others', async () => {
  const fixture = newFixture();
  fixture.refused = db;
  fixture.keeper.setIdentities(new Set([api, db]));
  await fixture.step();
  assert.notEqual(fixture.keeper.certificateOf(api), null);
  assert.equal(fixture.keeper.certificateOf(db), null);
  assert.match(fixture.keeper.problemOf(db) ?? '', /not on this node/);
});

test('a certificate for another identity is not taken', async () => {
  const fixture = newFixture();
  fixture.swapIdentities = true;
  fixture.keeper.setIdentities(new Set([api]));
  await fixture.step();
  assert.equal(fixture.keeper.certificateOf(api), null);
  assert.match(fixture.keeper.problemOf(api) ?? '', /certificate for spiffe:\/\/test\.local\/ns\/billing\/sa\/db/);
  assert.deepEqual([fixture.alarms, fixture.roots], [['unfit'], []]);
});

test('a certificate for another key is not taken', async () => {
  const fixture = newFixture();
  fixture.swapKeys = true;
  fixture.keeper.setIdentities(new Set([api]));
  await fixture.step();
  assert.equal(fixture.keeper.certificateOf(api), null);
  assert.match(fixture.keeper.problemOf(api) ?? '', /issued for another key/);
  assert.deepEqual([fixture.alarms, fixture.roots], [['unfit'], []]);
});

test('roots that do not vouch for the certificates beside them are not taken, nor the certificates', async () => {
  const fixture = newFixture();
  fixture.keeper.setIdentities(new Set([api, db]));
  await fixture.step();
  const held = fixture.keeper.certificateOf(api);
  const foreign = await createRootCa({ trustDomain: 'test.local', now: 1_800_000_000_000 });
  fixture.rootsPem = foreign.rootPem;
  await fixture.step();
  assert.equal(fixture.keeper.certificateOf(api), held);
  assert.match(fixture.keeper.problemOf(api) ?? '', /roots that came with it do not verify it/);
  assert.deepEqual([fixture.alarms, fixture.roots], [['unfit'], [issuer.rootPem]]);
  fixture.rootsPem = foreign.rootPem + issuer.rootPem;
  await fixture.step();
  assert.notEqual(fixture.keeper.certificateOf(api), held);
  assert.deepEqual(fixture.roots, [issuer.rootPem, fixture.rootsPem], 'roots that overlap are taken');
});

test('roots that come with no certificate are not taken', async () => {
  const fixture = newFixture();
  fixture.refused = db;
  fixture.keeper.setIdentities(new Set([db]));
  await fixture.step();
  assert.deepEqual([fixture.alarms, fixture.roots], [[], []]);
});

test('a restored certificate is used at once and renewed when half of its life is over', async () => {
  const first = newFixture();
  first.keeper.setIdentities(new Set([api]));
  await first.step();
  const second = newFixture();
  second.keeper.restore(first.keeper.certificates);
  second.keeper.setIdentities(new Set([api]));
  assert.equal(second.keeper.certificateOf(api)?.chainPem, first.keeper.certificateOf(api)?.chainPem);
  assert.equal(second.scheduler.nextInMs, 15_000);
  assert.deepEqual(second.asked, []);
});

test('an identity that left the node loses its certificate', async () => {
  const fixture = newFixture();
  fixture.keeper.setIdentities(new Set([api, db]));
  await fixture.step();
  fixture.keeper.setIdentities(new Set([db]));
  assert.deepEqual(
    fixture.keeper.certificates.map((certificate) => certificate.identity),
    [db],
  );
});

test('the backoff doubles up to its limit and keeps half of itself at random', () => {
  const at = (failures: number, random: number): number =>
    backoffMs({ failures, firstMs: 1000, maxMs: 30_000, random });
  assert.deepEqual(
    [1, 2, 3, 6, 60].map((failures) => at(failures, 1)),
    [1000, 2000, 4000, 30_000, 30_000],
  );
  assert.equal(at(3, 0), 2000);
});
