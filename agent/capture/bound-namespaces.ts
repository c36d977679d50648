import { readFileSync, readlinkSync } from 'node:fs';

/**
 * Paths of the network namespaces that are bound somewhere (`ip netns add`, `unshare --net=FILE`), as far as a process
 * sees the place: in every mount namespace that one of `pids` is in. A path leads through `/proc/PID/root`, so it is valid
 * here while that process lives. The own mount namespace comes first, with paths that need no process.
 */
export function boundNamespaces(pids: readonly string[]): readonly string[] {
  const seen = new Set<string>();
  return ['self', ...pids].flatMap((pid) => {
    const mountNamespace = attempt(() => readlinkSync(`/proc/${pid}/ns/mnt`));
    if (mountNamespace === null || seen.has(mountNamespace)) return [];
    const table = attempt(() => readFileSync(`/proc/${pid}/mountinfo`, 'utf8'));
    if (table === null) return [];
    seen.add(mountNamespace);
    const root = pid === 'self' ? '' : `/proc/${pid}/root`;
    return namespaceMounts(table).map((place) => root + place);
  });
}

/** Where network namespaces are mounted, by `/proc/PID/mountinfo` (proc(5)). */
export function namespaceMounts(mountinfo: string): readonly string[] {
  return [...mountinfo.matchAll(namespaceMount)].flatMap(([, place]) => (place === undefined ? [] : unescaped(place)));
}

/** Captured is the place; before it come two ids, the device, and the name of the namespace within its file system. */
const namespaceMount = /^\d+ \d+ \S+ net:\[\d+\] (\S+) .* - nsfs /gm;

/** The kernel writes blanks and backslashes as octal numbers. */
function unescaped(place: string): string {
  return place.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Null: the process has ended, or is another user's. */
function attempt<T>(step: () => T): T | null {
  try {
    return step();
  } catch {
    return null;
  }
}
