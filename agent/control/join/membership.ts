import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError, describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { joinMesh } from './join.js';
import type { NodeCredentials } from '../credentials/node-credentials.js';
import { backoffMs } from '../../thread/scheduler.js';
import type { StateDirectory } from '../state/state-directory.js';
import type { NodeName } from '../../../shared/routing/names.js';

export type JoinSettings = {
  readonly node: NodeName;
  readonly controllerUrl: string | null;
  readonly token: string | null;
  readonly tokenFile: string | null;
};

const maxRetryMs = 30_000;

/**
 * Returns this host's credentials: from disk, or else from a join that is retried until it succeeds, because host and
 * controller start in any order and a token file may be replaced. Throws CulvertError `NOT_JOINED` if no setting says
 * how to join, `NODE_MISMATCH` if the credentials on disk belong to another node, and the signal's reason.
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
  for (let failures = 1; ; failures++) {
    try {
      return await joinAndStore(o);
    } catch (error) {
      signal.throwIfAborted();
      const retryInMs = backoffMs({ failures, firstMs: 1000, maxMs: maxRetryMs, random: Math.random() });
      o.onProblem(describeError(error));
      log.error({ err: error, retryInMs: Math.round(retryInMs) }, 'the host could not join the mesh');
      await delay(retryInMs, undefined, { signal });
    }
  }
}

/** Makes one attempt. Throws what {@link joinMesh} throws, and if the credentials cannot be stored. */
export async function joinAndStore(o: {
  readonly settings: JoinSettings;
  readonly directory: StateDirectory;
  readonly version: string;
  readonly log: Log;
  readonly signal: AbortSignal;
}): Promise<NodeCredentials> {
  const { settings, directory, version, log, signal } = o;
  const { controllerUrl } = assertCanJoin(settings);
  const token = settings.token ?? (await readToken(settings.tokenFile ?? ''));
  const credentials = await joinMesh({ controllerUrl, token, node: settings.node, version, signal });
  await directory.credentials.write(credentials);
  log.info({ node: credentials.node, trustDomain: credentials.trustDomain }, 'joined the mesh');
  return credentials;
}

function assertCanJoin(settings: JoinSettings): { controllerUrl: string } {
  const { controllerUrl, token, tokenFile } = settings;
  if (controllerUrl !== null && (token !== null || tokenFile !== null)) return { controllerUrl };
  throw new CulvertError({
    code: 'NOT_JOINED',
    message: 'this host has not joined the mesh yet',
    hint: 'create a token with "culvert token create --node NAME", then pass --controller and --token (or --token-file)',
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

async function readToken(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (cause) {
    throw new CulvertError({
      code: 'TOKEN_UNREADABLE',
      message: `cannot read the join token from ${path}: ${describeError(cause)}`,
      hint: 'put the token there, or pass another file with --token-file',
      cause,
    });
  }
}
