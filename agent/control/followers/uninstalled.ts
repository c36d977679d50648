import { setTimeout as delay } from 'node:timers/promises';

/** The controller tells of a DaemonSet that is deleted within a second or two, and kubelet stops its pods at once. */
const defaults = { withinMs: 5000, everyMs: 300 } as const;

/**
 * Whether an agent that is stopped learns within a few seconds that its installation is being taken away. It looks again and
 * again, because the pods of a DaemonSet may be stopped before the controller has seen that it is deleted. Until then the agent
 * serves as before. False where nothing says so, also without a controller: an upgrade must not open the mesh.
 */
export async function learnsUninstalled(o: {
  readonly look: () => Promise<boolean>;
  /** Ends the wait early. */
  readonly signal: AbortSignal;
  readonly withinMs?: number;
  readonly everyMs?: number;
}): Promise<boolean> {
  const { withinMs, everyMs } = { ...defaults, ...o };
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), withinMs);
  const signal = AbortSignal.any([o.signal, end.signal]);
  try {
    while (!signal.aborted) {
      if (await Promise.race([o.look(), aborted(signal)])) return true;
      await delay(everyMs, undefined, { signal }).catch(() => undefined);
    }
    return false;
  } finally {
    clearTimeout(timer);
  }
}

function aborted(signal: AbortSignal): Promise<false> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(false), { once: true }));
}
