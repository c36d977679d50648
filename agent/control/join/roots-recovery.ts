import { randomBytes } from 'node:crypto';
import { CulvertError, describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { rootHashes } from '../../../shared/pki/root-hash.js';
import { openAnswer } from '../../../shared/wire/sealed-answer.js';
import { caResponseSchema, decodeWire, rootsQuestion, sealedRootsSchema } from '../../../shared/wire/requests.js';
import type { NodeCredentials } from '../credentials/node-credentials.js';
import type { Scheduler } from '../../thread/scheduler.js';
import { callController, parseControllerUrl } from './controller-client.js';

/** How soon after an attempt the next one may begin. */
const minIntervalMs = 10_000;

/**
 * Brings an agent back that no longer trusts the certificate of NATS, because the root was replaced before it had learned
 * the new one. It asks the controller for the roots over HTTPS without trusting TLS, and believes only an answer that the
 * controller signed for this very question with a key that the join pinned.
 */
export class RootsRecovery {
  readonly #init: RootsRecoveryInit;
  readonly #abort = new AbortController();
  #isAsking = false;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #lastProblem = '';

  constructor(init: RootsRecoveryInit) {
    this.#init = init;
  }

  /** TLS has refused the certificate of NATS. Returns at once; attempts are at least 10 s apart. */
  onUntrusted(): void {
    const nowMs = this.#init.scheduler.nowMs();
    const sinceMs = nowMs - this.#askedAtMs;
    if (this.#isAsking || this.#abort.signal.aborted || (sinceMs >= 0 && sinceMs < minIntervalMs)) return;
    this.#isAsking = true;
    this.#askedAtMs = nowMs;
    void this.#recover().finally(() => (this.#isAsking = false));
  }

  close(): void {
    this.#abort.abort();
  }

  async #recover(): Promise<void> {
    const { log, credentials } = this.#init;
    try {
      const rootsPem = await this.#fetchRoots();
      if (this.#abort.signal.aborted) return;
      if (isSameSet(rootHashes(rootsPem), rootHashes(credentials().rootsPem))) {
        this.#explain('the roots of this host are those of the controller: compare the clocks, and look for a proxy');
        return;
      }
      log.warn('fetched new roots from the controller, because TLS refused the certificate of NATS');
      this.#lastProblem = '';
      this.#init.onRoots(rootsPem);
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      this.#explain(describeError(error));
      if (error instanceof CulvertError && error.code === 'SIGNATURE_INVALID') this.#init.onOtherKeys();
    }
  }

  async #fetchRoots(): Promise<string> {
    const { credentials, controllerUrl } = this.#init;
    const url = controllerUrl ?? credentials().controllerUrl;
    if (url === undefined) {
      throw new CulvertError({
        code: 'CONTROLLER_URL',
        message: 'this host does not know the address of the controller',
        hint: 'set --controller, and the agent fetches the roots by itself',
      });
    }
    const nonce = randomBytes(24).toString('base64url');
    const { sealed } = await callController({
      url: new URL(`/v1/ca?nonce=${nonce}`, parseControllerUrl(url)),
      trust: 'unverified',
      schema: caResponseSchema,
      signal: this.#abort.signal,
    });
    if (sealed === undefined) {
      throw new CulvertError({
        code: 'ROOTS_UNSIGNED',
        message: 'the controller does not sign its roots',
        hint: 'upgrade the controller to the version of this agent, or join this host again',
      });
    }
    const bytes = openAnswer({
      asked: rootsQuestion(nonce),
      bytes: Buffer.from(sealed, 'base64'),
      publicKeysPem: credentials().signingPublicKeys,
    });
    return decodeWire(sealedRootsSchema, bytes).rootsPem;
  }

  /** The same problem repeats every few seconds, so it is logged once. */
  #explain(problem: string): void {
    this.#init.log[problem === this.#lastProblem ? 'debug' : 'error'](
      { problem },
      'TLS refuses the certificate of NATS, and no new roots could be fetched; trying again',
    );
    this.#lastProblem = problem;
  }
}

function isSameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((hash) => b.includes(hash));
}

export type RootsRecoveryInit = {
  readonly credentials: () => NodeCredentials;
  /** The setting; null: the address at which the host joined. */
  readonly controllerUrl: string | null;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** Roots that the controller signed and that differ from those held. */
  readonly onRoots: (rootsPem: string) => void;
  /** What answers at the controller's address has signed with none of the keys that this host pinned. */
  readonly onOtherKeys: () => void;
};
