/** The three kinds of certificate of a mesh. */
export type LeafKind = 'workload' | 'node' | 'server';

export type LeafUsage = 'server auth' | 'client auth';

/** What each kind may be used for, in the words of Kubernetes. */
export const leafUsages: Readonly<Record<LeafKind, readonly LeafUsage[]>> = {
  workload: ['server auth', 'client auth'],
  node: ['client auth'],
  server: ['server auth'],
};
