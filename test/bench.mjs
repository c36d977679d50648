import process from 'node:process';
import { bootstrap, builtUrl } from './bootstrap.mjs';

/** `npm run bench [-- rules …]`: makes the clone ready to run, then measures with test/bench/main.ts. */
try {
  await bootstrap('bench');
} catch (error) {
  process.stderr.write(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}\n`);
  process.exit(1);
}
await import(builtUrl('test/bench/main.js'));
