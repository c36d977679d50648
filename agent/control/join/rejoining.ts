import { CulvertError, describeError } from '../../../shared/errors.js';
import { rootHashes } from '../../../shared/pki/root-hash.js';
import { isOfSameMesh, type NodeCredentials } from '../credentials/node-credentials.js';
import { joinOnce, readRoots, type JoinAttemptInit } from './membership.js';

const checkEveryMs = 60_000;

/**
 * Joins again by itself where a join can be repeated: only a token of a service account works again and again, so elsewhere a
 * person has to join the node. There are two reasons. The credentials of this node have expired, as after a time off that is
 * longer than they are valid: nothing that is signed with them counts then, also not a renewal. Or the controller has a new CA
 * and new keys, as after its volume was lost: then {@link moved} resolves. The agent serves from its last good state meanwhile.
 */
export class Rejoining implements Disposable {
  readonly #init: RejoiningInit;
  readonly #abort = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #isJoining = false;
  #lastProblem = '';
  #lastMoveAtMs = Number.NEGATIVE_INFINITY;
  #tellMoved: (problem: CulvertError) => void = () => undefined;

  /**
   * Resolves when credentials of another mesh are on disk. The process has to start again: rules, certificates and registry of
   * the mesh before count no more, and what is on disk of them is refused by its signatures.
   */
  readonly moved = new Promise<CulvertError>((resolve) => (this.#tellMoved = resolve));

  constructor(init: RejoiningInit) {
    this.#init = init;
    this.#timer = setInterval(() => void this.checkExpired(), init.checkEveryMs ?? checkEveryMs);
    this.#timer.unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#abort.abort();
  }

  /** Never rejects. */
  async checkExpired(): Promise<void> {
    const credentials = this.#init.credentials();
    if (credentials === null || credentials.notAfterMs > Date.now()) return;
    await this.#join('the credentials of this node have expired', credentials);
  }

  /**
   * What answers at the controller's address is signed with no key of this mesh. Joins if the roots that the installation names
   * are others too: an answer alone proves nothing. At most once a minute. Never rejects.
   */
  async checkOtherMesh(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs - this.#lastMoveAtMs < (this.#init.checkEveryMs ?? checkEveryMs)) return;
    this.#lastMoveAtMs = nowMs;
    const held = this.#init.credentials();
    const { controllerCaFile } = this.#init.join.settings;
    if (held === null || controllerCaFile === null) return;
    const named = await readRoots(controllerCaFile).then(rootHashes, () => []);
    const own = new Set(rootHashes(held.rootsPem));
    if (named.length === 0 || named.some((hash) => own.has(hash))) return;
    await this.#join('the controller has a new CA', held);
  }

  async #join(why: string, held: HeldCredentials): Promise<void> {
    const { inCharge, join } = this.#init;
    const { tokenFile, controllerCaFile, controllerUrl } = join.settings;
    if (tokenFile === null || controllerCaFile === null || controllerUrl === null || this.#isJoining) return;
    this.#isJoining = true;
    try {
      // The credentials on disk are another process's before.
      await inCharge;
      const joined = await joinOnce({ ...join, signal: this.#abort.signal });
      if (isOfSameMesh(joined, held)) await this.#init.onJoined();
      else this.#tellMoved(meshChanged());
      this.#lastProblem = '';
    } catch (error) {
      const problem = describeError(error);
      if (!this.#abort.signal.aborted && problem !== this.#lastProblem)
        join.log.error({ err: error }, `${why}, and the node could not join again; retrying`);
      this.#lastProblem = problem;
    } finally {
      this.#isJoining = false;
    }
  }
}

type HeldCredentials = Pick<NodeCredentials, 'notAfterMs' | 'rootsPem' | 'signingPublicKeys'>;

function meshChanged(): CulvertError {
  return new CulvertError({
    code: 'MESH_CHANGED',
    message: 'the controller has a new CA and new keys: this node has joined the mesh that it serves now',
    hint: 'the agent starts again by itself',
  });
}

type RejoiningInit = {
  readonly join: Pick<JoinAttemptInit, 'settings' | 'directory' | 'version' | 'log'>;
  /** Those in use; null: none yet. */
  readonly credentials: () => HeldCredentials | null;
  /** When no other agent manages this host any more. */
  readonly inCharge: Promise<void>;
  /** New credentials of the same mesh are on disk. */
  readonly onJoined: () => Promise<unknown>;
  /** For tests. */
  readonly checkEveryMs?: number;
};
