import { z } from 'zod';
import { allowedNetnsPath } from './network-namespace.js';

/** Source: `cachedInfo` of libcni, version `cniCacheV1`; `netns` since 1.2, the interfaces before. */
const cachedSchema = z.object({
  netns: z.string().optional(),
  cniArgs: z.array(z.array(z.string())).nullish(),
  result: z.object({ interfaces: z.array(z.object({ sandbox: z.string().optional() })).nullish() }).nullish(),
});

/** Which network namespace a container runtime made for a pod. */
export type PodSandbox = { readonly uid: string; readonly netnsPath: string };

/** What a file in libcni's cache of results says; null: it is no sandbox of a pod, or cannot be understood. */
export function readCniResult(json: string): PodSandbox | null {
  const read = cachedSchema.safeParse(parse(json));
  if (!read.success) return null;
  const { netns, cniArgs, result } = read.data;
  const uid = (cniArgs ?? []).find(([name]) => name === 'K8S_POD_UID')?.[1];
  const sandboxes = [netns, ...(result?.interfaces ?? []).map(({ sandbox }) => sandbox)];
  const [netnsPath] = sandboxes.flatMap((path) => allowedNetnsPath(path ?? '') ?? []);
  return uid === undefined || uid === '' || netnsPath === undefined ? null : { uid, netnsPath };
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return null;
  }
}
