import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';

/**
 * Other versions of Node for the tests, from the npm packages of its binaries. npm checks their integrity; they are kept
 * under the user's cache directory, by exact version.
 */

/** The ends of the range: the gate runs on the machine's own Node, and also on each of these with another major version. */
export const gateVersions = ['20.12', '26'];

/** `20`, `20.12` or `20.12.1`. */
export function isVersion(text) {
  return /^\d+(?:\.\d+){0,2}$/.test(text);
}

/** The path of a Node of that version: the newest that the registry has. */
export function findNode(version, { log }) {
  const name = `node-${process.platform}-${process.arch}`;
  const exact = newestVersion(name, version);
  const directory = path.join(cacheDirectory(), exact);
  const binary = path.join(directory, 'node_modules', name, 'bin', 'node');
  if (existsSync(binary)) return binary;
  log(`installing ${name}@${exact} into ${directory}`);
  mkdirSync(cacheDirectory(), { recursive: true });
  const temporary = mkdtempSync(path.join(cacheDirectory(), '.installing-'));
  try {
    // A folder of its own with a package.json, so that npm does not look for a project above it.
    writeFileSync(path.join(temporary, 'package.json'), '{ "private": true }\n');
    const options = ['--prefix', temporary, '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    execFileSync('npm', ['install', ...options, `${name}@${exact}`], { stdio: ['ignore', 2, 2] });
    rmSync(directory, { recursive: true, force: true });
    renameSync(temporary, directory);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  const found = execFileSync(binary, ['--version'], { encoding: 'utf8' }).trim();
  if (found !== `v${exact}`) throw new Error(`${binary} says that it is ${found}, not v${exact}.`);
  return binary;
}

/** `npm view` of a range prints one version as a string and several, in order, as a list. */
function newestVersion(name, version) {
  if (/^\d+\.\d+\.\d+$/.test(version)) return version;
  const text = execFileSync('npm', ['view', `${name}@${version}`, 'version', '--json'], { encoding: 'utf8' });
  const versions = text === '' ? [] : [JSON.parse(text)].flat();
  const newest = versions
    .map((each) => each.split('.').map(Number))
    .sort(compareVersions)
    .at(-1);
  if (newest === undefined) throw new Error(`The registry has no ${name} of version ${version}.`);
  return newest.join('.');
}

function compareVersions(a, b) {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}

function cacheDirectory() {
  const base = process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache');
  return path.join(base, 'culvert', 'node');
}
