/**
 * The files that the gate (`.ci/run`) runs after `npm test`, below `suite/`: what a user does first, and what would hurt most
 * if it broke unseen. A nightly workflow runs every file, as `npm run test:kubernetes` does.
 */
export const gateFiles: readonly string[] = [
  'any-cluster/page',
  'own-cluster/chart',
  'own-cluster/check-before',
  'own-cluster/mesh-life',
  'own-cluster/paths',
  'own-cluster/pod-starts',
  'own-cluster/rules',
  'own-cluster/services',
];

/** Whether a test file, by its path, is one of them. */
export function isGateFile(file: string): boolean {
  return gateFiles.some((name) => file.replace(/\.test\.[jt]s$/, '').endsWith(`/suite/${name}`));
}
