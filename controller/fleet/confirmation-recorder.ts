import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { ConfirmationFile } from '../ca/rotation-confirmations.js';
import type { AgentRegistry } from './agent-registry.js';

/** Changes within this time share one write. */
const everyMs = 1000;

/**
 * Keeps the confirmations on disk for the commands that rotate the CA. A disk that fails makes a later step refuse, so it
 * is logged and tried again. Disposing writes the last state.
 */
export class ConfirmationRecorder implements AsyncDisposable {
  readonly #init: ConfirmationRecorderInit;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;
  #version = 0;
  #lastProblem = '';

  constructor(init: ConfirmationRecorderInit) {
    this.#init = init;
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#running;
    await this.#record();
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      await delay(everyMs, undefined, { signal }).catch(() => undefined);
      if (!signal.aborted) await this.#record();
    }
  }

  async #record(): Promise<void> {
    const { agents, file, log } = this.#init;
    const version = agents.trustVersion;
    if (version === 0 || version === this.#version) return;
    try {
      await file.write(agents.confirmations());
      this.#version = version;
      this.#lastProblem = '';
    } catch (error) {
      const problem = describeError(error);
      if (problem !== this.#lastProblem) log.error({ err: error }, 'what agents trust could not be recorded');
      this.#lastProblem = problem;
    }
  }
}

export type ConfirmationRecorderInit = {
  readonly agents: Pick<AgentRegistry, 'trustVersion' | 'confirmations'>;
  readonly file: Pick<ConfirmationFile, 'write'>;
  readonly log: Log;
};
