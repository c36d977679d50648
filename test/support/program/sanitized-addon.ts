import { execFileSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { builtOnce } from './built-once.js';

/** The repository, seen from the compiled file. */
const root = path.resolve(import.meta.dirname, '../../../..');

/** The agent's addon, built with AddressSanitizer and UndefinedBehaviorSanitizer. */
export type SanitizedAddon = Disposable & {
  /** For a process of Node that gets it in place of the agent's. */
  readonly nodeArguments: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
};

export function buildSanitizedAddon(): SanitizedAddon {
  const built = builtOnce('sanitized-addon', compile);
  const library = execFileSync('gcc', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
  return {
    nodeArguments: ['--require', path.join(built.directory, 'loader.cjs')],
    // Node frees nothing at its end, so leaks are looked for by counting, in the tests.
    environment: { ...process.env, LD_PRELOAD: library, ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1' },
    [Symbol.dispose]: () => built[Symbol.dispose](),
  };
}

function compile(directory: string): void {
  const folder = path.join(root, 'agent/native');
  const sources = [folder, path.join(folder, 'io')].flatMap((part) =>
    readdirSync(part)
      .filter((name) => name.endsWith('.c'))
      .map((name) => path.join(part, name)),
  );
  const headers = path.join(
    path.dirname(createRequire(import.meta.url).resolve('node-api-headers/package.json')),
    'include',
  );
  const sanitizers = ['-fsanitize=address,undefined', '-fno-sanitize-recover=undefined', '-fno-omit-frame-pointer'];
  const flags = ['-std=gnu11', '-O1', '-g', ...sanitizers, '-fPIC', '-shared', '-fvisibility=hidden'];
  const output = ['-o', path.join(directory, 'culvert.node')];
  execFileSync('gcc', [...flags, '-I', headers, ...output, ...sources], { stdio: ['ignore', 'ignore', 'inherit'] });
  // Node opens an addon by its path: this one in place of the other.
  writeFileSync(
    path.join(directory, 'loader.cjs'),
    `const { _extensions } = require('node:module');
    const open = _extensions['.node'];
    const addon = require('node:path').join(__dirname, 'culvert.node');
    _extensions['.node'] = (module, file) => open(module, file.endsWith('culvert.node') ? addon : file);`,
  );
}
