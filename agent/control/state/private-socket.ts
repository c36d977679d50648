import { randomBytes } from 'node:crypto';
import { chmodSync, renameSync, rmSync } from 'node:fs';
import type net from 'node:net';
import { dirname } from 'node:path';
import { makeStateDirectory } from '../../../shared/private-file.js';

/** A longer name cannot be a unix socket's (unix(7)); the system would cut it off. */
const maxPathBytes = 107;

/**
 * Makes a server listen at a path to which only this user can connect (mode 0600). It listens under a name of its own first,
 * and is then renamed over what a killed agent has left, or what another one serves: `mayListen` throws when it must not. The
 * server's later errors go to `onError`. Rejects with the server closed.
 */
export async function listenPrivately(
  server: net.Server,
  o: {
    readonly path: string;
    readonly mayListen?: () => Promise<void>;
    /** The owner stopped meanwhile: a name that is made now would stay. */
    readonly isClosed: () => boolean;
    readonly onError: (error: Error) => void;
  },
): Promise<void> {
  const { path, mayListen, isClosed, onError } = o;
  // Not a process id: in containers it is often that of the agent before, whose server removes this name when it closes.
  const own = `${path}.${randomBytes(4).toString('hex')}`;
  if (Buffer.byteLength(own) > maxPathBytes) throw new Error('its path is too long for a socket');
  await makeStateDirectory(dirname(own));
  await mayListen?.();
  if (isClosed()) throw new Error('the agent stops');
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(own, () => {
      server.off('error', reject);
      resolve();
    });
  });
  server.on('error', onError);
  try {
    if (isClosed()) throw new Error('the agent stops');
    chmodSync(own, 0o600);
    renameSync(own, path);
  } catch (error) {
    server.off('error', onError);
    server.close();
    rmSync(own, { force: true });
    throw error;
  }
}
