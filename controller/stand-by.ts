import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { assertApiCanListen } from './api/api-server.js';
import { StandbyServer } from './api/standby-server.js';
import { CaFiles } from './ca/ca-files.js';
import type { ServerKeyPair } from './ca/server-certificate.js';
import { apiNamesOf } from './ca/server-names.js';
import { createRootCa, type CertificateAuthority } from './ca/x509/certificate-authority.js';
import { createServerCsr, issueServerCertificate } from './ca/x509/mesh-certificates.js';
import { httpsAddress } from './config/https-address.js';
import type { ControllerSettings } from './config/settings.js';
import { ClosingStack } from './closing-stack.js';
import { KeyVault } from './keys/key-vault.js';
import { ActiveEndpoint } from './kubernetes/active-endpoint.js';
import { KubernetesApi } from './kubernetes/kubernetes-api.js';
import { Lease } from './kubernetes/lease.js';
import { Replicas, type ReplicasState } from './kubernetes/replicas.js';
import { ensureStateId, readStateId } from './store/state-id.js';
import { isLockedElsewhere } from './store/state-lock.js';
import { parseListenAddress } from '../shared/config/listen-address.js';
import { CulvertError } from '../shared/errors.js';
import type { Log } from '../shared/log.js';
import { assertFileLocks } from '../shared/native/file-lock.js';
import { splitCertificates } from '../shared/pki/pem.js';

const lookMs = 500;
/** The CA may be rotated, and a certificate ends. */
const newCertificateMs = 300_000;

/** That a controller is the one that may write. Disposing it lets the next one be that: do so when everything is closed. */
export interface Turn extends AsyncDisposable {
  /** Resolves when the turn is over before its time: the process has to end at once. */
  readonly lost: Promise<CulvertError>;
  /** The API answers: the Service leads here from now on. */
  readonly serve: (ports: Readonly<Record<string, number>>) => void;
  /** This controller and those that stand by for it. */
  readonly replicas: () => ReplicasState;
}

/**
 * Stands by until this controller holds the lease that the settings name, and until no other process has the state directory:
 * the first keeps two apart that do not see each other's locks, the second one that was stopped in the middle and goes on later.
 * Then the lease belongs to this state, and a controller with another one is refused. Meanwhile it answers probes at the
 * address of the API. Null: it was stopped. Errors: `CONFIG_INVALID`, `NATIVE_ADDON`, `LEASE_LOST`, `LEASE_OF_OTHER_STATE`,
 * `LISTEN_FAILED`, `STATE_WRITE`.
 */
export async function awaitTurn(init: {
  readonly settings: ControllerSettings;
  readonly lease: string;
  readonly signal: AbortSignal;
  readonly log: Log;
}): Promise<Turn | null> {
  const { settings, signal, log } = init;
  if (settings.unsafeWithoutKernelLock) throw lockIsNeeded();
  const { kubernetesNamespace: namespace } = settings;
  const api = new KubernetesApi({
    url: httpsAddress(settings.kubernetesApi, '--kubernetes-api'),
    caFile: settings.kubernetesCaFile,
    tokenFile: settings.kubernetesTokenFile,
  });
  const closing = new ClosingStack({ log });
  closing.push('api of the cluster', () => api.close());
  const lease = new Lease({
    api,
    namespace,
    name: init.lease,
    identity: `${hostname()}_${randomUUID()}`,
    durationMs: settings.kubernetesLeaseDuration,
    stateId: () => readStateId(settings.stateDir),
    log,
  });
  closing.push('lease', () => lease[Symbol.asyncDispose]());
  try {
    if (!(await standBy({ settings, lease, signal, log }))) {
      await closing[Symbol.asyncDispose]();
      return null;
    }
  } catch (error) {
    await closing[Symbol.asyncDispose]();
    throw error;
  }
  const held = { name: init.lease, since: new Date().toISOString(), problem: () => lease.problem };
  const replicas = new Replicas({ api, namespace, lease: held, log });
  closing.push('replicas', () => replicas[Symbol.asyncDispose]());
  return {
    lost: lease.lost,
    replicas: () => replicas.state,
    serve: (ports) => {
      const endpoint = new ActiveEndpoint({ api, namespace, service: 'culvert-controller', ports, log });
      closing.push('endpoint', () => endpoint[Symbol.asyncDispose]());
    },
    [Symbol.asyncDispose]: () => closing[Symbol.asyncDispose](),
  };
}

function lockIsNeeded(): CulvertError {
  return new CulvertError({
    code: 'CONFIG_INVALID',
    message: '--unsafe-without-kernel-lock and --kubernetes-lease exclude each other',
    hint: 'with a lease there are several controllers, and one that was stopped in the middle is known by its lock alone: leave --unsafe-without-kernel-lock out, or run one controller without a lease',
  });
}

type Waiting = {
  readonly settings: ControllerSettings;
  readonly lease: Lease;
  readonly signal: AbortSignal;
  readonly log: Log;
};

/** False: it was stopped. */
async function standBy({ settings, lease, signal, log }: Waiting): Promise<boolean> {
  let waitsFor = 'it has just started';
  const wait = (text: string): void => {
    if (text !== waitsFor) log.info({ waitsFor: text, port: server.port }, 'standing by');
    waitsFor = text;
  };
  assertFileLocks();
  const listen = parseListenAddress(settings.listen, '--listen');
  await assertApiCanListen(listen);
  await using server = await StandbyServer.start({
    ...listen,
    identity: await identityOf(settings),
    waitsFor: () => waitsFor,
    log,
  });
  const refresh = setInterval(() => {
    void renewIdentity({ settings, server, log });
  }, newCertificateMs);
  try {
    while (!signal.aborted) {
      const why = await lease.tryToHold();
      if (why === null) return await ownState({ stateDir: settings.stateDir, lease, signal, wait });
      wait(`the lease is not free: ${why}`);
      await delay(lease.everyMs, undefined, { signal }).catch(() => undefined);
    }
    return false;
  } finally {
    clearInterval(refresh);
  }
}

type Owning = {
  readonly stateDir: string;
  readonly lease: Lease;
  readonly signal: AbortSignal;
  readonly wait: (text: string) => void;
};

/** The one that had the lease may have been stopped in the middle: its process has to end before another one writes. */
async function ownState(init: Owning): Promise<boolean> {
  const { stateDir, lease, signal, wait } = init;
  let lost: CulvertError | null = null;
  void lease.lost.then((error) => (lost = error));
  while (!signal.aborted) {
    const holder = await isLockedElsewhere(stateDir);
    if (lost !== null) throw lost as CulvertError;
    if (holder === null) return tie({ stateDir, lease, signal, wait, lost: () => lost });
    wait(`the lease is held, and the state directory is in use by process ${holder}`);
    await delay(lookMs, undefined, { signal }).catch(() => undefined);
  }
  return false;
}

/** Before anything is made in the directory: a CA in an empty one would be another mesh. */
async function tie(init: Owning & { readonly lost: () => CulvertError | null }): Promise<boolean> {
  const { stateDir, lease, signal, wait, lost } = init;
  const id = await ensureStateId(stateDir);
  while (!signal.aborted) {
    const why = await lease.tryToTie(id);
    const error = lost();
    if (error !== null) throw error;
    if (why === null) return true;
    wait(`the lease is held, and does not belong to the state yet: ${why}`);
    await delay(lookMs, undefined, { signal }).catch(() => undefined);
  }
  return false;
}

/** The certificate that it has goes on where that fails. Never rejects. */
export async function renewIdentity(init: {
  readonly settings: ControllerSettings;
  readonly server: Pick<StandbyServer, 'replaceIdentity'>;
  readonly log: Log;
}): Promise<void> {
  try {
    init.server.replaceIdentity(await identityOf(init.settings));
  } catch (error) {
    init.log.warn({ err: error }, 'the certificate of a controller that stands by could not be renewed');
  }
}

/**
 * A certificate under the CA in the state directory, as the controller that serves has one; of an issuer elsewhere, the one that
 * it has stored; one that nobody trusts where there is neither yet. Changes nothing.
 */
async function identityOf(settings: ControllerSettings): Promise<ServerKeyPair> {
  const { stateDir, keyPassphraseFile, trustDomain, serverCertificateTtl: ttlMs } = settings;
  let issuer: CertificateAuthority | undefined;
  try {
    const files = new CaFiles({ stateDir, vault: await KeyVault.open(keyPassphraseFile, { stateDir }) });
    const stored = keyPairIn((await files.readServer('server-api')) ?? '');
    if (stored !== null) return stored;
    issuer = (await files.readAuthority('issuing')) ?? (await files.readAuthority('root'));
  } catch {
    // The controller that serves says what is wrong with them.
  }
  const all = apiNamesOf(settings.advertise);
  const names = {
    dnsNames: all.filter((name) => isIP(name) === 0),
    ipAddresses: all.filter((name) => isIP(name) !== 0),
  };
  const { csrPem, privateKeyPem } = await createServerCsr(names);
  issuer ??= await createRootCa({ trustDomain });
  const { chainPem } = await issueServerCertificate({ issuer, csrPem, ttlMs, ...names });
  return { chainPem, privateKeyPem };
}

function keyPairIn(text: string): ServerKeyPair | null {
  const privateKeyPem = /-----BEGIN PRIVATE KEY-----[\s\S]+?-----END PRIVATE KEY-----\n?/.exec(text)?.[0];
  return privateKeyPem === undefined ? null : { chainPem: splitCertificates(text).join(''), privateKeyPem };
}
