import { CulvertError } from '../../../shared/errors.js';
import { nodeSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import type { Log } from '../../../shared/log.js';
import { certificateHash, describeCertificate } from '../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { joinCertificates, splitCertificates } from '../../../shared/pki/pem.js';
import { SerialQueue } from '../../../shared/serial-queue.js';
import type { NodeName } from '../../../shared/routing/names.js';
import type { CaFiles } from '../ca-files.js';
import type { CertificateIssuer, IssuerStatus, MeshTrust, ServerRequest } from '../certificate-issuer.js';
import { proofNode } from '../prove-authority.js';
import type { IssuedCertificate } from '../x509/leaf-certificate.js';
import { ChainProofs } from './chain-proofs.js';
import type { ExternalRecord } from './external-record.js';
import type { GuardedIssuer } from './guarded-issuer.js';
import { issuerError } from './issuer-error.js';
import { IssuerHealth } from './issuer-health.js';
import { readIssuerRoots, rootsAmong } from './issuer-roots.js';
import {
  nodeAsk,
  proveWith,
  serverAsk,
  signVerified,
  workloadAsk,
  type Asked,
  type ProofSettings,
} from './verified-signing.js';
import type { VerifiedIssue } from './verify-issued.js';

export type ExternalCaSettings = ProofSettings & {
  /** PEM with the roots under which the issuer may sign; null: the root that it has when it is taken up. */
  readonly rootsFile: string | null;
};

type Init = {
  readonly settings: ExternalCaSettings;
  readonly issuer: GuardedIssuer;
  readonly files: CaFiles;
  readonly log: Log;
  readonly nowMs: () => number;
  /** The roots that count, or the one in use, have changed. */
  readonly onTrust?: (change: TrustChange) => void;
};

/** Hashes of roots. */
export type TrustChange = { readonly roots: string[] } | { readonly root: string; readonly before: string };

const authoritiesEveryMs = 10 * 60_000;
/** A lifetime that is shorter than this is left to the issuer to judge. */
const leastCappedMs = 10 * 60_000;
const atOnce = 8;
const ofTheNode: ReadonlySet<string> = new Set(['CSR_INVALID', 'ISSUER_FULL']);

/**
 * The CA of a mesh whose certificates an issuer elsewhere signs (Vault, cert-manager). No key of a CA is here. What comes back is
 * verified as strictly as if this host had signed it, and a chain that is new is proved first, see `proveSigning`. Which
 * roots count is the operator's word (`issuerRootsFile`), never the issuer's. The next root is one of that file at which no
 * certificate has ended yet, or one that is prepared for a CA of the controller's own; the previous ones are those that were
 * in use.
 */
export class ExternalCa implements CertificateIssuer {
  readonly parallel = atOnce;
  readonly #init: Init;
  readonly #proofs: ChainProofs;
  readonly #health: IssuerHealth;
  readonly #writes = new SerialQueue();
  #record: ExternalRecord;
  #saved: ExternalRecord;
  #nextOwnRoot: string | null = null;
  #previousRoots: readonly string[] = [];
  #authoritiesAtMs = Number.NEGATIVE_INFINITY;

  private constructor(init: Init, record: ExternalRecord) {
    this.#init = init;
    this.#record = record;
    this.#saved = record;
    this.#proofs = new ChainProofs({ prove: () => this.#prove(), nowMs: init.nowMs });
    this.#proofs.add(record);
    this.#health = new IssuerHealth({ ...init, place: init.issuer.place });
  }

  /**
   * Takes up what is known of the issuer, and asks it only where nothing is: then it has to sign. Errors: codes of `IssuerCode`,
   * `ISSUER_ROOTS`, `CA_UNUSABLE`, `CA_INVALID`, `STATE_READ`, `STATE_WRITE`.
   */
  static async open(init: Init): Promise<ExternalCa> {
    const { files, log, issuer } = init;
    let record = await files.readExternal('external');
    if (record === undefined) {
      record = await ExternalCa.takeUp(init);
      await files.writeExternal('external', record);
      log.info(
        { issuer: issuer.place, root: certificateHash(record.rootPem) },
        'an issuer elsewhere signs for this mesh',
      );
    }
    const ca = new ExternalCa(init, record);
    await ca.#readFiles();
    return ca;
  }

  /** Finds out what the issuer signs with, and proves that it can sign for the mesh. Writes nothing. Errors: see {@link open}. */
  static async takeUp(init: Pick<Init, 'settings' | 'issuer' | 'nowMs'>): Promise<ExternalRecord> {
    const { settings, nowMs } = init;
    const rootsPem = settings.rootsFile === null ? null : await readIssuerRoots(settings.rootsFile, nowMs());
    let first: VerifiedIssue | null = null;
    const sign = async (asked: Asked): Promise<VerifiedIssue> => {
      const issued = await signVerified(init, asked, rootsPem ?? first?.rootPem ?? null);
      first ??= issued;
      if (issued.issuersPem === first.issuersPem && issued.rootPem === first.rootPem) return issued;
      throw mixedChains();
    };
    await proveWith(init, sign, () => first?.rootPem ?? '');
    const { rootPem, issuersPem } = first ?? { rootPem: '', issuersPem: '' };
    return { rootsPem: rootsPem ?? rootPem, usedRoots: [rootPem], rootPem, issuersPem };
  }

  get rootsPem(): string {
    const { nextRootPem, previousRootsPem, rootPem } = this.trust;
    return joinCertificates([
      rootPem,
      ...(nextRootPem === null ? [] : [nextRootPem]),
      this.#record.rootsPem,
      ...previousRootsPem,
    ]);
  }

  get rootHash(): string {
    return certificateHash(this.#record.rootPem);
  }

  get nextRootHash(): string | null {
    const { nextRootPem } = this.trust;
    return nextRootPem === null ? null : certificateHash(nextRootPem);
  }

  get trust(): MeshTrust {
    const { rootPem, rootsPem, usedRoots, issuersPem } = this.#record;
    const [issuingPem = rootPem] = splitCertificates(issuersPem);
    const configured = splitCertificates(rootsPem);
    const unused = configured.find((pem) => !usedRoots.includes(pem));
    const usedBefore = configured.filter((pem) => pem !== rootPem && usedRoots.includes(pem));
    return {
      issuingPem,
      rootPem,
      nextRootPem: this.#nextOwnRoot ?? unused ?? null,
      previousRootsPem: [...new Set([...usedBefore, ...this.#previousRoots])].filter((pem) => pem !== rootPem),
    };
  }

  get issuingNotAfterMs(): number {
    const { rootPem, issuersPem } = this.#record;
    return Math.min(...[rootPem, ...splitCertificates(issuersPem)].map((pem) => describeCertificate(pem).notAfterMs));
  }

  get external(): IssuerStatus {
    const { kind, place, waiting } = this.#init.issuer;
    const { problem } = this.#health;
    const hasNamedRoots = this.#init.settings.rootsFile !== null;
    const [problemText, problemSinceMs] = [problem?.text ?? null, problem?.sinceMs ?? null];
    return { kind, place, waiting, hasNamedRoots, problem: problemText, problemSinceMs };
  }

  /** Never rejects because of the issuer: what is wrong with it is in {@link external} and in the log. */
  async refresh(): Promise<void> {
    await this.#readFiles();
    const problem: unknown = await this.#housekeeping().then(
      () => null,
      (error: unknown) => error,
    );
    this.#health.noteUpkeep(problem);
    // Those who asked may not ask again for hours, and the alarm is to end with its cause.
    if (this.#health.isDown) await this.#probe().catch(() => undefined);
  }

  signWorkload(o: {
    readonly csrPem: string;
    readonly identity: SpiffeId;
    readonly node: NodeName;
    readonly signal?: AbortSignal;
  }): Promise<IssuedCertificate> {
    const { workloadTtlMs: ttlMs } = this.#init.settings;
    return this.#sign(workloadAsk({ ...o, ttlMs }), o.signal);
  }

  signNode(o: {
    readonly csrPem: string;
    readonly node: NodeName;
    readonly signal?: AbortSignal;
  }): Promise<IssuedCertificate> {
    const { nodeTtlMs: ttlMs, trustDomain } = this.#init.settings;
    return this.#sign(nodeAsk({ ...o, ttlMs, trustDomain }), o.signal);
  }

  signServer(request: ServerRequest): Promise<IssuedCertificate> {
    return this.#sign(serverAsk(request, this.#init.settings.serverTtlMs));
  }

  async #sign(asked: Asked, signal?: AbortSignal): Promise<IssuedCertificate> {
    const subject = [asked.kind, ...asked.uris, ...asked.dnsNames].join(' ');
    try {
      const leftMs = this.issuingNotAfterMs - this.#init.nowMs() - 1000;
      const ttlMs = leftMs >= leastCappedMs ? Math.min(asked.ttlMs, leftMs) : asked.ttlMs;
      const issued = await signVerified(this.#init, { ...asked, ttlMs }, this.#record.rootsPem, signal);
      await this.#proofs.assertProved(issued);
      await this.#noteChain(issued);
      this.#health.noteSigned(subject);
      const { chainPem, notAfterMs, serial } = issued;
      return { chainPem, notAfterMs, serial };
    } catch (error) {
      // What one node sends, and how much, says nothing of the issuer.
      if (!(error instanceof CulvertError) || !ofTheNode.has(error.code)) this.#health.noteFailed(error, subject);
      throw error;
    }
  }

  async #probe(): Promise<void> {
    const { trustDomain } = this.#init.settings;
    const { csrPem } = await createCsr({ identity: nodeSpiffeId(trustDomain, proofNode) });
    await this.signNode({ csrPem, node: proofNode });
  }

  async #prove(): Promise<readonly VerifiedIssue[]> {
    const issued: VerifiedIssue[] = [];
    const sign = async (asked: Asked): Promise<VerifiedIssue> => {
      const one = await signVerified(this.#init, asked, this.#record.rootsPem);
      issued.push(one);
      if (one.issuersPem === issued[0]?.issuersPem && one.rootPem === issued[0].rootPem) return one;
      throw mixedChains();
    };
    await proveWith(this.#init, sign, () => issued[0]?.rootPem ?? '');
    return issued;
  }

  /** The chain of the newest certificate is what the next start takes up, and its root is the one in use. */
  async #noteChain({ issuersPem, rootPem }: VerifiedIssue): Promise<void> {
    const before = this.#record;
    if (before.issuersPem === issuersPem && before.rootPem === rootPem) return;
    const usedRoots = [...before.usedRoots.filter((pem) => pem !== rootPem), rootPem].slice(-16);
    this.#record = { ...before, issuersPem, rootPem, usedRoots };
    const { log } = this.#init;
    const change = { root: certificateHash(rootPem), before: certificateHash(before.rootPem) };
    log.warn(
      change,
      before.rootPem === rootPem ? 'the issuer signs with another CA' : 'the issuer signs under another root',
    );
    if (before.rootPem !== rootPem) this.#init.onTrust?.(change);
    await this.#save();
  }

  /** Writes one after the other, each what is known by then. */
  #save(): Promise<void> {
    return this.#writes.run(async () => {
      const record = this.#record;
      if (record === this.#saved) return;
      await this.#init.files.writeExternal('external', record);
      this.#saved = record;
    });
  }

  async #readFiles(): Promise<void> {
    const { files, nowMs, settings, log } = this.#init;
    this.#nextOwnRoot = (await files.readAuthority('next-root'))?.rootPem ?? null;
    this.#previousRoots = await files.readPreviousRoots(nowMs());
    try {
      // A write may have failed before.
      await this.#save();
      if (settings.rootsFile === null) return;
      const rootsPem = await readIssuerRoots(settings.rootsFile, nowMs());
      if (rootsPem === this.#record.rootsPem) return;
      const hashes = splitCertificates(rootsPem).map((pem) => certificateHash(pem));
      log.warn({ roots: hashes }, 'the roots of the issuer have changed: agents learn them now');
      this.#record = { ...this.#record, rootsPem };
      this.#init.onTrust?.({ roots: hashes });
      await this.#save();
    } catch (error) {
      // Those that are known stay in force.
      this.#health.noteUpkeep(error);
    }
  }

  async #housekeeping(): Promise<void> {
    const { issuer, settings, nowMs } = this.#init;
    if (settings.rootsFile !== null) await readIssuerRoots(settings.rootsFile, nowMs());
    await issuer.maintain();
    const now = nowMs();
    if (now - this.#authoritiesAtMs < authoritiesEveryMs && now >= this.#authoritiesAtMs) return;
    const bundle = await issuer.authorities();
    const offered = bundle === null ? [] : splitCertificates(rootsAmong(bundle));
    const known = splitCertificates(this.#record.rootsPem);
    if (offered.length > 0 && !offered.some((pem) => known.includes(pem))) throw foreignRoot(offered[0] ?? '');
    this.#authoritiesAtMs = now;
  }
}

function mixedChains(): CulvertError {
  return issuerError(
    'ISSUER_UNFIT',
    'the issuer signs workloads, nodes and servers with different CAs',
    'let all three have the same issuer; right after a change of its CA, wait a moment',
  );
}

function foreignRoot(pem: string): CulvertError {
  return issuerError(
    'ISSUER_UNFIT',
    `the issuer has a root that this mesh does not trust: ${certificateHash(pem)}`,
    'if it was replaced on purpose, write the old and the new root into the file of --issuer-roots-file, and see culvert ca status',
  );
}
