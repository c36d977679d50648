import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AnswerAlarm } from '../../../../agent/control/credentials/answer-alarm.js';
import { CertificateRotator } from '../../../../agent/control/credentials/certificate-rotator.js';
import { CredentialsRotator } from '../../../../agent/control/credentials/credentials-rotator.js';
import type { NodeCredentials } from '../../../../agent/control/credentials/node-credentials.js';
import { systemScheduler } from '../../../../agent/thread/scheduler.js';
import { subjectFor } from '../../../../shared/bus/subjects.js';
import { nodeSpiffeId, type SpiffeId } from '../../../../shared/identity.js';
import { createLog } from '../../../../shared/log.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { createRootCa } from '../../../../controller/ca/x509/certificate-authority.js';
import { issueNodeCertificate, issueWorkloadCertificate } from '../../../../controller/ca/x509/mesh-certificates.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { decodeWire, encodeWire, renewRequestSchema, signRequestSchema } from '../../../../shared/wire/requests.js';
import type { RenewResponse, SignResponse } from '../../../../shared/wire/requests.js';
import { sealAnswer } from '../../../../shared/wire/sealed-answer.js';
import { openRequest } from '../../../../shared/wire/sealed-request.js';
import { LinkFixture } from '../../../support/agent/agent-link-fixture.js';
import { Inbox } from '../../../support/bus/bus-deadline.js';
import { nodeNamed } from '../../../support/routing/names.js';

const api = 'spiffe://mesh.test/ns/shop/sa/web' as SpiffeId;
const silent = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
type Envelope = { readonly signature: string };
type Seal = (answer: unknown, request: Uint8Array, subject: string) => Uint8Array;

function throwError(error: unknown): never {
  throw error;
}

/** The controller's side on the same nats-server, or an impostor in its place: `seal` decides. */
class Responder {
  readonly #fixture: LinkFixture;
  seal: Seal;
  rootsPem: string;
  issueFor: string = 'node1';
  signingPublicKeys: string[];
  consumerPrefix: string | null = null;
  #held: Uint8Array | null = null;

  /** Resolves when the server knows of its subscriptions: commands of one connection are carried out in order. */
  static async start(fixture: LinkFixture): Promise<Responder> {
    const responder = new Responder(fixture);
    await fixture.rulesBucket.get('a-round-trip');
    return responder;
  }

  private constructor(fixture: LinkFixture) {
    this.#fixture = fixture;
    this.rootsPem = fixture.nats.ca.root.rootPem;
    this.signingPublicKeys = [fixture.signingKey.publicKey];
    this.seal = this.honest;
    fixture.controller.serve(subjectFor('sign', nodeNamed('node1')), (message) => this.#sign(message), throwError);
    fixture.controller.serve(subjectFor('renew', nodeNamed('node1')), (message) => this.#renew(message), throwError);
  }

  readonly honest: Seal = (answer, request, subject) =>
    sealAnswer({ asked: { subject, request }, answer, privateKeyPem: this.#fixture.signingKey.privateKey });

  /** Each answer is the first that was given, byte by byte. */
  readonly replay: Seal = (...of) => (this.#held ??= this.honest(...of));

  /** The agent's own words: an honest controller would take no others. */
  #open({ subject, bytes }: { subject: string; bytes: Uint8Array }): Uint8Array {
    const { rootPem } = this.#fixture.nats.ca.root;
    const spiffeId = nodeSpiffeId('mesh.test', nodeNamed('node1'));
    return openRequest({ subject, bytes, spiffeId, rootsPem: rootPem, nowMs: Date.now() });
  }

  async #sign({ subject, bytes }: { subject: string; bytes: Uint8Array }): Promise<Uint8Array> {
    const issuer = this.#fixture.nats.ca.issuing;
    const { requests } = decodeWire(signRequestSchema, this.#open({ subject, bytes }));
    const certificates = await Promise.all(
      requests.map(async ({ identity, csrPem }) => {
        const issued = await issueWorkloadCertificate({ issuer, csrPem, identity, ttlMs: 3_600_000 });
        return { identity, chainPem: issued.chainPem, notAfterMs: issued.notAfterMs };
      }),
    );
    const answer: SignResponse = { rootsPem: this.rootsPem, certificates };
    return this.seal(answer, bytes, subject);
  }

  async #renew({ subject, bytes }: { subject: string; bytes: Uint8Array }): Promise<Uint8Array> {
    const { csrPem } = decodeWire(renewRequestSchema, this.#open({ subject, bytes }));
    const issuer = this.#fixture.nats.ca.issuing;
    const of = { issuer, csrPem, trustDomain: 'mesh.test', node: nodeNamed(this.issueFor), ttlMs: 3_600_000 };
    const { chainPem, notAfterMs } = await issueNodeCertificate(of);
    const answer: RenewResponse = {
      nodeCertificatePem: chainPem,
      natsJwt: 'jwt',
      ...(this.consumerPrefix === null ? {} : { consumerPrefix: this.consumerPrefix }),
      notAfterMs,
      rootsPem: this.rootsPem,
      signingPublicKeys: this.signingPublicKeys,
    };
    return this.seal(answer, bytes, subject);
  }
}

/** A keeper that asks over the link, as in the agent. */
class Keeper implements Disposable {
  readonly changes = new Inbox<string | null>();
  readonly roots: string[] = [];
  readonly alarms: AnswerAlarm[] = [];
  readonly keeper: CertificateRotator;

  constructor(fixture: LinkFixture) {
    this.keeper = new CertificateRotator({
      sign: (request) => fixture.link.sign(request),
      scheduler: systemScheduler,
      renewJitterPercent: 0,
      log: silent,
      onChange: () => this.changes.push(this.keeper.problemOf(api)),
      onRoots: (pem) => this.roots.push(pem),
      onAnswerRefused: (kind) => this.alarms.push(kind),
    });
  }

  async refusedFor(problem: RegExp): Promise<void> {
    const isRefused = (seen: readonly (string | null)[]): boolean => seen.some((text) => problem.test(text ?? ''));
    await this.changes.until(`refused for ${problem.source}`, isRefused);
    assert.equal(this.keeper.certificateOf(api), null);
    assert.deepEqual(this.roots, []);
  }

  [Symbol.dispose](): void {
    this.keeper.close();
  }
}

async function connected(): Promise<LinkFixture> {
  const fixture = await LinkFixture.start();
  await fixture.connections.until('connected', (seen) => seen.length > 0);
  return fixture;
}

test('an answer with a wrong key is refused and counted, and the next one of the controller is taken', async () => {
  await using fixture = await connected();
  const responder = await Responder.start(fixture);
  const wrong = generateSigningKey();
  responder.seal = (answer, request, subject) =>
    sealAnswer({ asked: { subject, request }, answer, privateKeyPem: wrong.privateKey });
  using held = new Keeper(fixture);
  held.keeper.setIdentities(new Set([api]));
  await held.refusedFor(/not signed with a key that this agent accepts/);
  assert.deepEqual(fixture.answerAlarms.items, ['unsigned']);
  assert.ok(fixture.hasLogged('"alarm":"unsigned"'));
  responder.seal = responder.honest;
  held.keeper.retryNow();
  await held.changes.until('issued', () => held.keeper.certificateOf(api) !== null);
  assert.deepEqual(held.roots, [fixture.nats.ca.root.rootPem]);
});

test('an answer without a signature is refused, and so is a refusal without one', async () => {
  await using fixture = await connected();
  const responder = await Responder.start(fixture);
  responder.seal = (answer) => encodeWire(answer);
  using held = new Keeper(fixture);
  held.keeper.setIdentities(new Set([api]));
  await held.refusedFor(/signed message is malformed/);
  responder.seal = () => encodeWire({ error: { code: 'GO_AWAY', message: 'you are no longer of us', hint: null } });
  held.keeper.retryNow();
  await fixture.answerAlarms.until('the forged refusal', (seen) => seen.length === 2);
  assert.equal(held.keeper.certificateOf(api), null);
  assert.ok(!fixture.hasLogged('you are no longer of us'));
});

test('an answer that was right once is refused when it is played again to the same question', async () => {
  await using fixture = await connected();
  const responder = await Responder.start(fixture);
  responder.seal = responder.replay;
  const { csrPem } = await createCsr({ identity: api });
  const question = { requests: [{ identity: api, csrPem }] };
  const first = await fixture.link.sign(question);
  assert.equal(first.certificates.length, 1);
  await assert.rejects(fixture.link.sign(question), { code: 'SIGNATURE_INVALID' });
  assert.deepEqual(fixture.answerAlarms.items, ['unsigned']);
});

test('a roots bundle that was changed on the way is refused', async () => {
  await using fixture = await connected();
  const responder = await Responder.start(fixture);
  const foreign = await createRootCa({ trustDomain: 'mesh.test' });
  responder.seal = (answer, request, subject) => {
    const { signature } = JSON.parse(Buffer.from(responder.honest(answer, request, subject)).toString()) as Envelope;
    const rootsPem = responder.rootsPem + foreign.rootPem;
    const payload = Buffer.from(encodeWire({ ...(answer as SignResponse), rootsPem })).toString('base64');
    return encodeWire({ payload, signature });
  };
  using held = new Keeper(fixture);
  held.keeper.setIdentities(new Set([api]));
  await held.refusedFor(/not signed with a key/);
  assert.deepEqual(fixture.answerAlarms.items, ['unsigned']);
});

test('roots that the controller signed but that do not vouch for the certificates beside them are refused', async () => {
  await using fixture = await connected();
  const responder = await Responder.start(fixture);
  responder.rootsPem = (await createRootCa({ trustDomain: 'mesh.test' })).rootPem;
  using held = new Keeper(fixture);
  held.keeper.setIdentities(new Set([api]));
  await held.refusedFor(/roots that came with it do not verify it/);
  assert.deepEqual([held.alarms, fixture.answerAlarms.items], [['unfit'], []]);
});

test('node credentials change only with an answer that is signed for them and holds together', async () => {
  await using fixture = await connected();
  const responder = await Responder.start(fixture);
  const renewed = new Inbox<NodeCredentials>();
  const alarms = new Inbox<AnswerAlarm>();
  const credentials = { ...fixture.credentials, notAfterMs: 0, obtainedAtMs: 0 };
  const renewal = new CredentialsRotator({
    credentials,
    renew: (request) => fixture.link.renew(request),
    scheduler: systemScheduler,
    renewJitterPercent: 0,
    log: silent,
    write: (written) => Promise.resolve(renewed.push(written)),
    onAnswerRefused: alarms.push,
    onWriteFailed: () => undefined,
    onNewRoots: () => undefined,
  });
  const hostile = generateSigningKey();
  responder.signingPublicKeys = [hostile.publicKey];
  responder.seal = (answer, request, subject) =>
    sealAnswer({ asked: { subject, request }, answer, privateKeyPem: hostile.privateKey });
  try {
    renewal.start();
    await fixture.answerAlarms.until('the hostile answer', (seen) => seen.length === 1);
    responder.seal = responder.honest;
    const hostileRoot = await createRootCa({ trustDomain: 'mesh.test' });
    const unfit: [what: string, spoil: () => void][] = [
      ['an invalid key', () => (responder.signingPublicKeys = ['no key'])],
      ['another node', () => (responder.issueFor = 'node2')],
      ['other roots', () => (responder.rootsPem = hostileRoot.rootPem)],
    ];
    for (const [index, [what, spoil]] of unfit.entries()) {
      responder.signingPublicKeys = [fixture.signingKey.publicKey];
      responder.issueFor = 'node1';
      spoil();
      renewal.retryNow();
      await alarms.until(what, (seen) => seen.length > index);
    }
    assert.equal(renewed.items.length, 0);
    assert.ok(alarms.items.every((kind) => kind === 'unfit'));
    responder.rootsPem = fixture.nats.ca.root.rootPem;
    renewal.retryNow();
    await renewed.until('renewed', (seen) => seen.length > 0);
    assert.deepEqual(renewed.items[0]?.signingPublicKeys, [fixture.signingKey.publicKey]);
    assert.ok(!('consumerPrefix' in (renewed.items[0] ?? {})), 'a JWT of an earlier controller allows any name');
  } finally {
    renewal.close();
  }
});
