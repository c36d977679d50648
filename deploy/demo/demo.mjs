import process from 'node:process';
import { bootstrap, builtUrl } from '../../test/bootstrap.mjs';

/** `npm run demo`: prepares the clone, then runs deploy/demo/main.ts. */
try {
  await bootstrap();
} catch (error) {
  process.stderr.write(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}\n`);
  process.exit(1);
}
await import(builtUrl('deploy/demo/main.js'));
