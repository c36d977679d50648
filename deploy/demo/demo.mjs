import process from 'node:process';
import { bootstrap, builtUrl } from '../../test/bootstrap.mjs';

const [word = ''] = process.argv.slice(2);
const isOption = word === '' || word.startsWith('-');
if (!isOption && !['shell', 'culvert', 'log', 'help'].includes(word)) {
  process.stderr.write(
    `unknown command '${word}' (the commands are shell, culvert and log; see npm run demo -- --help)\n`,
  );
  process.exit(64);
}

/** `npm run demo`: prepares the clone, then runs deploy/demo/main.ts. Commands for a demo that runs already find it prepared. */
try {
  if (isOption || word === 'help') await bootstrap('demo');
} catch (error) {
  process.stderr.write(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}\n`);
  process.exit(1);
}
await import(builtUrl('deploy/demo/main.js'));
