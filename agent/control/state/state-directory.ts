import { join } from 'node:path';
import { z } from 'zod';
import type { Log } from '../../../shared/log.js';
import type { OwnNames } from '../../../shared/private-state.js';
import { ChecksummedFile } from './checksummed-file.js';
import {
  capturedNamespacesSchema,
  encodeState,
  stateFileSchema,
  type CapturedNamespaces,
  type LastGoodState,
  type RulesAndCertificates,
} from './last-good-state.js';
import { nodeCredentialsSchema, type NodeCredentials } from '../credentials/node-credentials.js';
import { RegistryFile, type RegistrySource } from './registry-file.js';
import type { StateFile } from './state-file.js';

/** What the agent makes in its state directory. */
export const namesInAgentState: OwnNames = {
  names: [
    'agent.sock',
    'captured.json',
    'cni-enrolled',
    'cni.sock',
    'credentials.json',
    'enrolment.json',
    'flows.tally',
    'newest.json',
    'registry.state',
    'state.json',
  ],
  marks: ['credentials.json', 'captured.json', 'state.json'],
};

/**
 * What the agent keeps on disk. Each part has its own file, so that damage to one does not cost the others:
 * `credentials.json` (the membership), `state.json` (rules and certificates), `newest.json` (when the controller last confirmed
 * them), `enrolment.json` (which pods wait for the agent before they start), `registry.state` and `captured.json` (where capture
 * rules may be).
 */
export class StateDirectory {
  readonly credentials: ChecksummedFile<NodeCredentials>;
  readonly captured: ChecksummedFile<CapturedNamespaces>;
  /** Sealed statements of what is the newest, base64. */
  readonly newest: ChecksummedFile<string[]>;
  /** Sealed, base64. */
  readonly enrolment: ChecksummedFile<string>;
  readonly #state: ChecksummedFile<unknown>;
  readonly #registry: RegistryFile;

  constructor(init: { readonly path: string }) {
    this.credentials = new ChecksummedFile({
      path: join(init.path, 'credentials.json'),
      parse: (value) => nodeCredentialsSchema.parse(value),
    });
    this.captured = new ChecksummedFile({
      path: join(init.path, 'captured.json'),
      parse: (value) => capturedNamespacesSchema.parse(value),
    });
    this.newest = new ChecksummedFile({
      path: join(init.path, 'newest.json'),
      parse: (value) => z.array(z.string()).max(2).parse(value),
    });
    this.enrolment = new ChecksummedFile({
      path: join(init.path, 'enrolment.json'),
      parse: (value) => z.string().parse(value),
    });
    this.#state = new ChecksummedFile<unknown>({ path: join(init.path, 'state.json'), parse: (value) => value });
    this.#registry = new RegistryFile({ path: join(init.path, 'registry.state') });
  }

  /**
   * Undefined if there are none, or if the file is damaged. Damage is logged, with the name of the file it was moved
   * to.
   */
  async readCredentials(log: Log): Promise<NodeCredentials | undefined> {
    return readOrExplain(this.credentials, log, 'the host must join again');
  }

  async readCaptured(log: Log): Promise<CapturedNamespaces> {
    const found = await readOrExplain(
      this.captured,
      log,
      'capture rules of workloads that left meanwhile cannot be found',
    );
    return found ?? { namespaces: [] };
  }

  /**
   * Undefined if there is no state, or if it is damaged. Without rules an agent allows nothing and must not look as if
   * it did, so a registry alone is ignored.
   */
  async readState(log: Log): Promise<LastGoodState | undefined> {
    const file = new ChecksummedFile({ path: this.#state.path, parse: (value) => stateFileSchema.parse(value) });
    const state = await readOrExplain(file, log, 'no traffic is allowed until new rules arrive');
    const registry = await readOrExplain(this.#registry, log, 'no traffic is allowed until a new registry arrives');
    if (state === undefined) return undefined;
    return { ...state, registry: registry ?? { entries: [], isComplete: false } };
  }

  /** Sealed, as they were received. */
  async readStatements(log: Log): Promise<Uint8Array[]> {
    const found = await readOrExplain(this.newest, log, 'how old the rules are is known again from the next one on');
    return (found ?? []).map((text) => new Uint8Array(Buffer.from(text, 'base64')));
  }

  /** Sealed, as it was received; undefined: there is none. */
  async readEnrolment(log: Log): Promise<Uint8Array | undefined> {
    const found = await readOrExplain(this.enrolment, log, 'which pods wait for the agent is known again from NATS');
    return found === undefined ? undefined : new Uint8Array(Buffer.from(found, 'base64'));
  }

  async writeState(state: RulesAndCertificates): Promise<void> {
    await this.#state.write(encodeState(state));
  }

  async saveRegistry(registry: RegistrySource): Promise<void> {
    await this.#registry.save(registry);
  }
}

async function readOrExplain<T>(file: StateFile<T>, log: Log, consequence: string): Promise<T | undefined> {
  const stored = await file.read();
  if (stored.kind === 'corrupt') {
    const { movedTo, problem } = stored;
    log.error({ file: file.path, movedTo, problem }, `a damaged state file was moved aside: ${consequence}`);
  }
  return stored.kind === 'loaded' ? stored.value : undefined;
}
