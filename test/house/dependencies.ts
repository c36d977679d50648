import { readFileSync } from 'node:fs';
import path from 'node:path';

/** Licences under which a package may be part of the programs or of their build, as SPDX names them. */
const allowedLicences: readonly string[] = [
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'ISC',
  'MIT',
  'Unlicense',
];

export type LockedPackage = {
  readonly version?: string;
  readonly license?: string;
  readonly integrity?: string;
  /** Only the build and the tests need it. */
  readonly dev?: boolean;
};

/** What the repository says of its packages. */
export type Dependencies = {
  /** Of package.json, the production ones and those of the build. */
  readonly declared: readonly string[];
  /** Of package-lock.json, by the folder (`node_modules/yaml`). */
  readonly locked: Readonly<Record<string, LockedPackage>>;
  /** The packages of the table in ARCHITECTURE.md that have a reason there. */
  readonly reasoned: readonly string[];
};

export function readDependencies(root: string): Dependencies {
  const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');
  const { dependencies, devDependencies } = JSON.parse(read('package.json')) as Record<string, object>;
  const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, LockedPackage> };
  const { '': _, ...locked } = packages;
  return {
    declared: Object.keys({ ...dependencies, ...devDependencies }),
    locked,
    reasoned: reasonedPackages(read('ARCHITECTURE.md')),
  };
}

/** Every package without a reason, without a checksum or under a licence that is not allowed; one sentence each. */
export function findDependencyProblems({ declared, locked, reasoned }: Dependencies): string[] {
  return [
    ...declared.filter((name) => !reasoned.includes(name)).map((name) => `${name} has no reason in ARCHITECTURE.md`),
    ...reasoned.filter((name) => !declared.includes(name)).map((name) => `${name} has a reason but is no dependency`),
    ...declared.filter((name) => locked[`node_modules/${name}`] === undefined).map((name) => `${name} is not locked`),
    ...Object.entries(locked).flatMap(([folder, { version, license, integrity }]) => {
      const name = `${packageOf(folder)} ${version ?? ''}`.trimEnd();
      return [
        ...(version === undefined || integrity === undefined ? [`${name} is locked without a checksum`] : []),
        ...(isAllowed(license ?? '') ? [] : [`${name} has the licence "${license ?? ''}", which is not allowed`]),
      ];
    }),
  ].map((problem) => `dependencies: ${problem}`);
}

/** Name, version and licence of each package that is in the programs. */
export function productionPackages({ locked }: Dependencies): (readonly [string, string, string])[] {
  return Object.entries(locked)
    .filter(([, { dev = false }]) => !dev)
    .map(([folder, { version = '', license = '' }]) => [packageOf(folder), version, license] as const)
    .toSorted(([a, versionOfA], [b, versionOfB]) => compare(a, b) || compare(versionOfA, versionOfB));
}

/** A choice (`A OR B`) is allowed when one of its sides is. */
function isAllowed(licence: string): boolean {
  const alternatives = licence.replace(/^\((.*)\)$/, '$1').split(' OR ');
  return alternatives.some((each) => allowedLicences.includes(each));
}

function packageOf(folder: string): string {
  return folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length);
}

/** The first column of the table under "Dependencies, and why", where the second one has words. */
function reasonedPackages(architecture: string): string[] {
  const [, section = ''] = /^## Dependencies, and why$([^]*?)^## /m.exec(architecture) ?? [];
  const rows = section.split('\n').flatMap((line) => {
    const [, names, why] = /^\| (`.*?) \| (.*) \|$/.exec(line) ?? [];
    return names === undefined || why?.trim() === '' ? [] : [names];
  });
  return rows.flatMap((names) => [...names.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name));
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
