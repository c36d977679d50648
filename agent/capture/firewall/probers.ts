import { CulvertError } from '../../../shared/errors.js';

/** Who on the host may connect to its workloads without a rule: a user, the processes of a cgroup, or source ports. */
export type Prober =
  | { readonly kind: 'uid'; readonly uid: number }
  | { readonly kind: 'cgroup'; readonly path: string }
  | { readonly kind: 'port'; readonly from: number; readonly to: number };

/** Each prober is a rule for each address of a workload. */
const maxProbers = 16;
const usablePath = /^(?:\/(?!\.)[\w@:.-]+)+$/;
const longestPath = 500;

/** Reads `uid:0`, `cgroup:/system.slice/kubelet.service`, `port:40000` and `port:40000-40010`. Throws `CONFIG_INVALID`. */
export function parseProbers(texts: readonly string[]): readonly Prober[] {
  if (texts.length > maxProbers) {
    throw invalid(
      `${texts.length} entries are more than ${maxProbers}`,
      'name a cgroup that contains several programs',
    );
  }
  return texts.map((text) => {
    const prober = parseProber(text);
    if (prober !== null) return prober;
    throw invalid(
      `"${text}" names no program of the host`,
      'write uid:998, cgroup:/system.slice/kubelet.service, port:40000 or port:40000-40010',
    );
  });
}

function parseProber(text: string): Prober | null {
  const uid = /^uid:(\d{1,10})$/.exec(text)?.[1];
  // The last number of 32 bits is no user.
  if (uid !== undefined) return Number(uid) < 2 ** 32 - 1 ? { kind: 'uid', uid: Number(uid) } : null;
  const path = /^cgroup:(.+)$/.exec(text)?.[1];
  if (path !== undefined) return usablePath.test(path) && path.length <= longestPath ? { kind: 'cgroup', path } : null;
  const [, first, last = first] = /^port:(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const [from, to] = [Number(first), Number(last)];
  return first !== undefined && from >= 1 && from <= to && to <= 65_535 ? { kind: 'port', from, to } : null;
}

function invalid(what: string, hint: string): CulvertError {
  return new CulvertError({ code: 'CONFIG_INVALID', message: `--host-probes: ${what}`, hint });
}
