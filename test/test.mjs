import { execFileSync } from 'node:child_process';
import process from 'node:process';
import { bootstrap, builtUrl } from './bootstrap.mjs';

/**
 * `npm test [suite…] [-- --filter RE]`: makes the clone ready, checks style when the whole gate is asked for, then runs
 * the suites of test/run.ts.
 */
try {
  await bootstrap();
} catch (error) {
  process.stderr.write(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}\n`);
  process.exit(1);
}
if (process.argv.length === 2) {
  for (const script of ['lint', 'format']) {
    try {
      execFileSync('npm', ['run', '--silent', script], { stdio: ['ignore', 2, 2] });
    } catch {
      process.stderr.write(`"npm run ${script}" found what stands above.\n`);
      process.exit(1);
    }
  }
}
await import(builtUrl('test/run.js'));
