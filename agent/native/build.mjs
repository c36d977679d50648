// Builds the C files of this folder into dist/agent/native/culvert.node, those of the folders in it into programs next to it,
// and those of shared/native into an addon of its own, with this machine's compiler and the headers that come with Node.
// Downloads nothing. `npm install` runs it, and `npm run build` runs it with --if-missing.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
const built = join(root, 'dist', 'agent', 'native');
const locks = join(root, 'shared', 'native');
const flags = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror'];
/** What the addon and the privileged helper have in common: what each can do without Node. */
const shared = [
  'perform',
  'packets',
  'make-sockets',
  'namespace-questions',
  'conntrack',
  'sock-diag',
  'syn-queue',
  'nf-tables',
  'watch-connections',
];
const targets = [
  {
    file: join(built, 'culvert.node'),
    sources: [...filesOf(here, '.c'), ...filesOf(join(here, 'io'), '.c')],
    flags: ['-fPIC', '-shared', '-fvisibility=hidden'],
  },
  {
    file: join(root, 'dist', 'shared', 'native', 'file-lock.node'),
    sources: filesOf(locks, '.c'),
    flags: ['-fPIC', '-shared', '-fvisibility=hidden'],
  },
  {
    file: join(built, 'culvert-helper'),
    sources: [...filesOf(join(here, 'helper'), '.c'), ...shared.map((name) => join(here, `${name}.c`))],
    flags: ['-fPIE', '-pie', '-fstack-protector-strong', '-D_FORTIFY_SOURCE=2', '-Wl,-z,relro,-z,now'],
  },
  {
    file: join(built, 'culvert-cni'),
    sources: filesOf(join(here, 'cni'), '.c'),
    flags: ['-fstack-protector-strong', '-D_FORTIFY_SOURCE=2', '-Wl,-z,relro,-z,now'],
    // It leaves the image that it comes in: the host may have another C library, or an older one.
    first: ['-static', '-s'],
  },
  {
    file: join(built, 'culvert-cni-install'),
    sources: [
      ...filesOf(join(here, 'cni-install'), '.c'),
      join(here, 'cni', 'json.c'),
      join(here, 'helper', 'keep-capabilities.c'),
    ],
    flags: ['-fPIE', '-pie', '-fstack-protector-strong', '-D_FORTIFY_SOURCE=2', '-Wl,-z,relro,-z,now'],
  },
];

function filesOf(directory, ending) {
  return readdirSync(directory)
    .filter((name) => name.endsWith(ending))
    .map((name) => join(directory, name));
}

/** Node-API is stable across versions of Node, so headers of another version work too. */
function findHeaders() {
  const nodedir = process.env.npm_config_nodedir;
  const candidates = [
    ...(nodedir ? [join(nodedir, 'include', 'node')] : []),
    join(dirname(dirname(process.execPath)), 'include', 'node'),
    ...installedHeaders(),
    '/usr/include/node',
  ];
  return candidates.find((directory) => existsSync(join(directory, 'node_api.h')));
}

/** Of the package node-api-headers, which is installed next to this one or above it. */
function installedHeaders() {
  try {
    return [join(dirname(createRequire(import.meta.url).resolve('node-api-headers/package.json')), 'include')];
  } catch {
    return [];
  }
}

function findCompiler() {
  const candidates = process.env.CC ? [process.env.CC] : ['gcc', 'cc', 'clang'];
  return candidates.find((command) => {
    try {
      execFileSync(command, ['--version'], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  });
}

/** Those that are missing, or older than what they are made of. A header counts for all of them. */
function findStale() {
  const headers = [here, ...['helper', 'cni', 'cni-install', 'io'].map((part) => join(here, part))].flatMap(
    (directory) => filesOf(directory, '.h'),
  );
  return targets.filter(({ file, sources }) => {
    const parts = [...sources, ...headers, fileURLToPath(import.meta.url)];
    return !existsSync(file) || parts.some((path) => statSync(path).mtimeMs > statSync(file).mtimeMs);
  });
}

function compile(compiler, headers, wanted) {
  for (const { file } of wanted) mkdirSync(dirname(file), { recursive: true });
  for (const { file, sources, flags: own, first } of wanted) {
    const temporary = `${file}.${process.pid}.tmp`;
    const args = [...flags, ...own, '-I', headers, '-o', temporary, ...sources];
    try {
      if (first === undefined || !isCompiled(compiler, [...first, ...args]))
        execFileSync(compiler, args, { stdio: 'inherit' });
      // A running agent keeps the file that it has loaded; the next one loads the complete new file.
      renameSync(temporary, file);
    } finally {
      rmSync(temporary, { force: true });
    }
  }
}

/** False where it fails, for lack of the static libraries of C above all; then it is tried without these flags. */
function isCompiled(compiler, args) {
  try {
    execFileSync(compiler, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Returns an error line if these targets cannot be built, or undefined. */
function build(wanted) {
  const compiler = findCompiler();
  if (compiler === undefined) {
    const wanted = process.env.CC ? `CC=${process.env.CC} cannot be run` : 'there is no C compiler';
    return `native addon not built: ${wanted}. Install one (Debian: apt-get install -y gcc libc6-dev), then run: npm run build`;
  }
  const headers = findHeaders();
  if (headers === undefined) {
    return "native addon not built: Node's headers were not found. Run: npm install (it brings node-api-headers), then: npm run build";
  }
  try {
    compile(compiler, headers, wanted);
    console.log(`native addon built with ${compiler}`);
    return undefined;
  } catch (error) {
    return `native addon not built: ${compiler} failed (${error.message.split('\n')[0]}). Is libc6-dev installed?`;
  }
}

const ifMissing = process.argv.includes('--if-missing');
if (process.platform !== 'linux') {
  console.log(
    `native addon not built: the agent runs on Linux only, this is ${process.platform}. The culvert command works.`,
  );
} else {
  const wanted = ifMissing ? findStale() : targets;
  const problem = wanted.length === 0 ? undefined : build(wanted);
  if (problem !== undefined) {
    console.error(problem);
    // An installation of just the command line continues without the addon; a build does not.
    if (ifMissing || process.env.npm_lifecycle_event !== 'install') process.exitCode = 1;
  }
}
