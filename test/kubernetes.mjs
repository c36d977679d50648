import process from 'node:process';
import { bootstrap, builtUrl } from './bootstrap.mjs';

/**
 * `npm run test:kubernetes [-- --proxy iptables] [-- --ipv4-only]`: makes the clone ready, then runs test/kubernetes/main.ts.
 * Only a cluster on this machine needs root: building one does not, nor does the cluster of `KUBECONFIG`.
 */
const [verb = 'run'] = process.argv.slice(2);
const isOwn = (process.env.KUBECONFIG ?? '') === '';
try {
  await bootstrap('kubernetes', { needsRoot: isOwn && !['build', 'write-minor', 'images'].includes(verb) });
  await import(builtUrl('test/kubernetes/main.js'));
} catch (error) {
  process.stderr.write(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}\n`);
  process.exitCode = 1;
}
