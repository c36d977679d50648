import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError, describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { readNamedFile } from '../../../shared/named-file.js';
import { readProcFile } from '../../native/addon.js';
import { hasHelper } from '../../native/helper.js';
import { parseControllerUrl } from './controller-client.js';
import type { JoinKeys } from './join.js';
import type { NodeCredentials } from '../credentials/node-credentials.js';
import { backoffMs } from '../../thread/scheduler.js';
import type { StateDirectory } from '../state/state-directory.js';
import type { NodeName } from '../../../shared/routing/names.js';

export type JoinSettings = {
  readonly node: NodeName;
  readonly controllerUrl: string | null;
  readonly token: string | null;
  readonly tokenFile: string | null;
  /** Roots of the mesh, for a token that names none. */
  readonly controllerCaFile: string | null;
};

const maxRetryMs = 30_000;
const writeRetryMs = 2000;

/**
 * Returns this host's credentials: from disk, or else from a join that is retried until it succeeds, because host and
 * controller start in any order and a token file may be replaced. Throws CulvertError `NOT_JOINED` if no setting says
 * how to join, `CONTROLLER_URL` if the address cannot be one, `NODE_MISMATCH` if the credentials on disk belong to
 * another node, and the signal's reason.
 */
export async function obtainCredentials(o: {
  readonly settings: JoinSettings;
  readonly directory: StateDirectory;
  readonly version: string;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Called with the reason each time an attempt to join fails. */
  readonly onProblem: (problem: string) => void;
}): Promise<NodeCredentials> {
  const { settings, directory, log, signal } = o;
  const stored = await directory.readCredentials(log);
  if (stored !== undefined) {
    assertSameNode(stored, settings.node);
    return stored;
  }
  assertCanJoin(settings);
  const attempt = new JoinAttempt(o);
  for (let failures = 1; ; failures++) {
    try {
      return await attempt.joinAndStore();
    } catch (error) {
      signal.throwIfAborted();
      // Another process may have joined with the command meanwhile.
      const joined = await directory.readCredentials(log);
      if (joined !== undefined && !attempt.isUnsaved) {
        assertSameNode(joined, settings.node);
        return joined;
      }
      const retryInMs = backoffMs({ failures, firstMs: 1000, maxMs: maxRetryMs, random: Math.random() });
      o.onProblem(describeError(error));
      log.error({ err: error, retryInMs: Math.round(retryInMs) }, 'the host could not join the mesh');
      await delay(retryInMs, undefined, { signal });
    }
  }
}

/** Joins once, for a command. Once the token is spent, only the write is repeated, until it works or the signal aborts. */
export async function joinOnce(o: JoinAttemptInit): Promise<NodeCredentials> {
  const attempt = new JoinAttempt(o);
  for (;;) {
    try {
      return await attempt.joinAndStore();
    } catch (error) {
      if (!attempt.isUnsaved) throw error;
      o.log.error({ err: error }, 'the host has joined, but its credentials could not be stored; trying again');
      await delay(writeRetryMs, undefined, { signal: o.signal });
    }
  }
}

export type JoinAttemptInit = {
  readonly settings: JoinSettings;
  readonly directory: StateDirectory;
  readonly version: string;
  readonly log: Log;
  readonly signal: AbortSignal;
};

/** Many times a token. */
const maxTokenBytes = 64 * 1024;
const maxCaBytes = 1024 * 1024;
/** More than credentials have, with a chain of several RSA certificates. */
const probeBytes = 64 * 1024;

/**
 * Joins and stores the credentials. A token works once, so it is sent only after a write to the state directory has worked.
 * What was obtained all the same and could not be stored is kept, and only the write is repeated.
 */
class JoinAttempt {
  readonly #init: JoinAttemptInit;
  #keys: JoinKeys | null = null;
  #obtained: NodeCredentials | null = null;

  constructor(init: JoinAttemptInit) {
    this.#init = init;
  }

  /** The token is spent, and the credentials exist only in this process. */
  get isUnsaved(): boolean {
    return this.#obtained !== null;
  }

  /** May be repeated after it failed. Throws what `joinMesh` throws, and `STATE_WRITE`. */
  async joinAndStore(): Promise<NodeCredentials> {
    const { settings, directory, version, log, signal } = this.#init;
    const { controllerUrl } = assertCanJoin(settings);
    if (this.#obtained === null) {
      await directory.credentials.assertWritable(probeBytes);
      const token = settings.token ?? (await readToken(settings.tokenFile ?? ''));
      // Most starts do not join, and joining needs the client of NATS, the largest library of the agent.
      const { createJoinKeys, joinMesh } = await import('./join.js');
      this.#keys ??= await createJoinKeys();
      const { node } = settings;
      const caPem = settings.controllerCaFile === null ? null : await readRoots(settings.controllerCaFile);
      this.#obtained = await joinMesh({ controllerUrl, token, caPem, node, keys: this.#keys, version, signal });
    }
    const credentials = this.#obtained;
    await directory.credentials.write(credentials);
    log.info({ node: credentials.node, trustDomain: credentials.trustDomain }, 'joined the mesh');
    return credentials;
  }
}

function assertCanJoin(settings: JoinSettings): { controllerUrl: string } {
  const { node, controllerUrl, token, tokenFile } = settings;
  if (controllerUrl !== null) parseControllerUrl(controllerUrl);
  const hasToken = token !== null || tokenFile !== null;
  if (controllerUrl !== null && hasToken) return { controllerUrl };
  const missing = [
    ...(controllerUrl === null ? ['the address of the controller with --controller'] : []),
    ...(hasToken ? [] : [`a token with --token-file (culvert token create --node ${node} makes one)`]),
  ];
  throw new CulvertError({
    code: 'NOT_JOINED',
    message: 'this host has not joined the mesh yet',
    hint: `pass ${missing.join(' and ')}`,
  });
}

function assertSameNode(stored: NodeCredentials, node: NodeName): void {
  if (stored.node === node) return;
  throw new CulvertError({
    code: 'NODE_MISMATCH',
    message: `the state directory belongs to node "${stored.node}", but this node is called "${node}"`,
    hint: 'set --node to the old name, or use another --state-dir and a new token',
  });
}

/** It may be a file of root, which the helper of this agent may read. */
function readByHelper(path: string): string | null {
  try {
    return hasHelper() ? readProcFile({ netnsFd: null, path }) : null;
  } catch {
    return null;
  }
}

async function readToken(path: string): Promise<string> {
  const file = await readNamedFile(path, { maxBytes: maxTokenBytes });
  if (file.isRead) return file.bytes.toString('utf8').trim();
  const byHelper = readByHelper(path);
  if (byHelper !== null) return byHelper.trim();
  throw unreadableToken(path, file, process.geteuid?.() ?? 0);
}

/** Throws CulvertError `CA_UNREADABLE`. */
export async function readRoots(path: string): Promise<string> {
  const file = await readNamedFile(path, { maxBytes: maxCaBytes });
  if (file.isRead) return file.bytes.toString('utf8');
  throw new CulvertError({
    code: 'CA_UNREADABLE',
    message: `cannot read the roots of the mesh from ${path}: ${file.problem}`,
    hint: 'the controller writes them into the ConfigMap culvert-ca; or pass another file with --controller-ca-file',
    cause: file.cause,
  });
}

/** `uid`: of the agent, which is root only at its start. */
export function unreadableToken(
  path: string,
  { problem, cause }: { readonly problem: string; readonly cause: unknown },
  uid: number,
): CulvertError {
  const isForbidden = ['EACCES', 'EPERM'].includes((cause as NodeJS.ErrnoException | undefined)?.code ?? '');
  return new CulvertError({
    code: 'TOKEN_UNREADABLE',
    message: `cannot read the join token from ${path}: ${problem}`,
    hint:
      isForbidden && uid !== 0
        ? `give the file to the user of the agent, chown ${uid} ${path}, and let that user reach its directory`
        : 'put the token there, or pass another file with --token-file',
    cause,
  });
}
