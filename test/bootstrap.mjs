import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * Makes a fresh clone ready to run: npm packages, build, then the programs of a run (`demo`, `tests`, `bench`, `kubernetes`) that
 * the machine lacks; what needs no root goes without them. It is plain JavaScript because it comes before the compiler. What
 * it does goes to stderr; stdout belongs to the program that comes after it.
 */
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
export async function bootstrap(run, { needsRoot = true } = {}) {
  process.chdir(root);
  refuseUnless(process.platform === 'linux', 'Culvert needs Linux: it works with network namespaces and iptables.');
  refuseUnless(isNewEnough(process.versions.node), `Culvert needs Node.js 20.12 or newer, this is ${process.version}.`);
  refuseUnless(
    !needsRoot || process.getuid() === 0,
    'Network namespaces and iptables need root: run it as root, for example with sudo.',
  );
  if (!hasPackages()) {
    say('installing the npm packages of package-lock.json');
    start('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']);
  }
  say('building');
  start(process.execPath, [compiler(), '-b'], seldomCollecting);
  start(process.execPath, ['deploy/bundle.mjs']);
  start(process.execPath, ['deploy/make-executable.mjs']);
  if (needsRoot) {
    const { ensureRequirements } = await import(builtUrl('test/lab/install-requirements.js'));
    const { requirementsOf } = await import(builtUrl('test/lab/declared-programs.js'));
    await ensureRequirements({ install: true, log: say, requirements: requirementsOf(run) });
  }
  start(process.execPath, ['agent/native/build.mjs', '--if-missing']);
}

/**
 * Whether node_modules holds what package-lock.json names, however it was installed. npm writes down what it installed when it is
 * done (node_modules/.package-lock.json), so an installation that was cut short counts as none.
 */
export function hasPackages(directory = root) {
  const packagesOf = (file) => JSON.parse(readFileSync(path.join(directory, file), 'utf8')).packages;
  if (!existsSync(path.join(directory, 'node_modules/.package-lock.json'))) return false;
  const installed = packagesOf('node_modules/.package-lock.json');
  return Object.entries(packagesOf('package-lock.json')).every(([name, { version, integrity, optional }]) => {
    if (name === '') return true;
    const found = installed[name];
    // Optional packages are for one kind of machine each.
    if (found === undefined) return optional === true;
    return found.version === version && found.integrity === integrity && existsSync(path.join(directory, name));
  });
}

/** For compiler and linter, programs of Go: a fifth less CPU time, for 1.5 GB of memory in place of 1.0. */
export const seldomCollecting = { GOGC: '400' };

/** A file of the build, for `import()`. */
export function builtUrl(relative) {
  return pathToFileURL(path.join(root, 'dist', relative)).href;
}

/** 20.12 brought http2.performServerHandshake, which the tunnel stands on. */
function isNewEnough(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 20 || (major === 20 && minor >= 12);
}

function compiler() {
  return path.join(root, 'node_modules/typescript/bin/tsc');
}

function start(command, args, env = {}) {
  try {
    execFileSync(command, args, { stdio: ['ignore', 2, 2], env: { ...process.env, ...env } });
  } catch (error) {
    refuseUnless(
      false,
      `"${command} ${args.join(' ')}" failed (${error.status ?? error.message}); what it wrote stands above.`,
    );
  }
}

function refuseUnless(condition, message) {
  if (condition) return;
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

function say(line) {
  process.stderr.write(`# ${line}\n`);
}
