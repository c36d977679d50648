import { RegistryFollower } from '../../../agent/control/followers/registry-follower.js';
import type { Bus } from '../../../shared/bus/bus.js';
import { buckets } from '../../../shared/bus/subjects.js';
import type { Log } from '../../../shared/log.js';
import { pageKeyPrefix } from '../../../shared/wire/registry-leaf.js';
import { openRegistryRoot, registryRootKey } from '../../../shared/wire/registry-root.js';
import { openProvenRegistryEntry, openRegistryEntry } from '../../../shared/wire/signed.js';

/** Follows the registry as an agent does, without a data plane. `onWhole`: all of a root's registry is here. */
export async function followRegistry(o: {
  readonly bus: Bus;
  readonly publicKeysPem: readonly string[];
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly onWhole: (sequence: number) => void;
  readonly onAlarm: () => void;
}): Promise<RegistryFollower> {
  const { bus, publicKeysPem, log, signal, onWhole, onAlarm } = o;
  const follower = new RegistryFollower({
    open: (key, bytes) => openRegistryEntry({ key, bytes, publicKeysPem }),
    openProven: (key, bytes) => openProvenRegistryEntry({ key, bytes }),
    openRoot: (bytes) => openRegistryRoot({ bytes, publicKeysPem }),
    log,
    onChange: ({ sequence }) => {
      if (sequence !== undefined) onWhole(sequence);
    },
    onStale: () => undefined,
    onAlarm,
  });
  const bucket = await bus.bucket(buckets.registry);
  const root = await bucket.get(registryRootKey);
  if (root !== undefined) follower.onEntry({ operation: 'put', ...root });
  for (const page of await bucket.entries({ prefix: pageKeyPrefix })) follower.onEntry({ operation: 'put', ...page });
  bucket.watch({ onEntry: (change) => follower.onEntry(change), onReady: () => undefined, signal });
  return follower;
}
