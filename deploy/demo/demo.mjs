import process from 'node:process';
import { bootstrap, builtUrl } from '../../test/bootstrap.mjs';

/** `npm run demo`: prepares the clone, then runs deploy/demo/main.ts. Commands for a demo that runs already find it prepared. */
try {
  if (!['shell', 'culvert', 'log'].includes(process.argv[2])) await bootstrap('demo');
} catch (error) {
  process.stderr.write(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}\n`);
  process.exit(1);
}
await import(builtUrl('deploy/demo/main.js'));
