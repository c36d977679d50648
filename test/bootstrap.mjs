import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath, pathToFileURL } from 'node:url';

/**
 * Makes a fresh clone ready to run: npm packages, build, then what the machine lacks. It is plain JavaScript because it
 * comes before the compiler. What it does goes to stderr; stdout belongs to the program that comes after it.
 */
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
/** The hash of the package-lock.json that was installed. `npm ci` removes it first: one that was cut short counts as none. */
const installedMark = 'node_modules/.culvert-installed';

export async function bootstrap() {
  process.chdir(root);
  refuseUnless(process.platform === 'linux', 'Culvert needs Linux: it works with network namespaces and iptables.');
  refuseUnless(isNewEnough(process.versions.node), `Culvert needs Node.js 20.12 or newer, this is ${process.version}.`);
  refuseUnless(
    process.getuid() === 0,
    'Network namespaces and iptables need root: run it as root, for example with sudo.',
  );
  const wanted = createHash('sha256').update(readFileSync('package-lock.json')).digest('hex');
  if (!existsSync(installedMark) || readFileSync(installedMark, 'utf8') !== wanted) {
    say('installing the npm packages of package-lock.json');
    run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']);
    writeFileSync(installedMark, wanted);
  }
  say('building');
  run(process.execPath, [compiler(), '-b']);
  const { ensureRequirements } = await import(builtUrl('test/lab/install-requirements.js'));
  await ensureRequirements({ install: true, log: say });
  run(process.execPath, ['agent/native/build.mjs', '--if-missing']);
}

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

function run(command, args) {
  try {
    execFileSync(command, args, { stdio: ['ignore', 2, 2] });
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
