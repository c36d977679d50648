import process from 'node:process';
import { bootstrap, builtUrl } from './bootstrap.mjs';

/** `npm test`: makes the clone ready, then lint, format and every suite. Arguments go to test/run.ts. */
try {
  await bootstrap();
} catch (error) {
  process.stderr.write(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}\n`);
  process.exit(1);
}
await import(builtUrl('test/run.js'));
