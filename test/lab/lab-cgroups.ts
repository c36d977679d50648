import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const cgroupRoot = '/sys/fs/cgroup';

/**
 * The folders of the hierarchies of cgroups: the one of version 2, or one for each controller of version 1. Programs are in none
 * of ours themselves: kubelets make what pods have below them.
 */
function hierarchies(): string[] {
  if (existsSync(path.join(cgroupRoot, 'cgroup.controllers'))) return [cgroupRoot];
  return readdirSync(cgroupRoot)
    .map((name) => path.join(cgroupRoot, name))
    .filter((directory) => existsSync(path.join(directory, 'cgroup.procs')));
}

/** Makes a cgroup in each hierarchy. Kubelets that share a root would remove each other's pods. */
export function makeCgroup(name: string): void {
  // Where both versions are mounted, the controllers are in those of version 1.
  for (const hierarchy of hierarchies().filter((directory) => path.basename(directory) !== 'unified')) {
    const directory = path.join(hierarchy, name);
    mkdirSync(directory, { recursive: true });
    for (const set of ['cpuset.cpus', 'cpuset.mems']) {
      const above = path.join(hierarchy, set);
      // Version 1: nothing runs in a set without processors.
      if (path.basename(hierarchy) === 'cpuset' && existsSync(above)) {
        writeFileSync(path.join(directory, set), readFileSync(above));
      }
    }
  }
}

/** The folders of a cgroup, of all hierarchies that have it. */
export function foldersOfCgroup(name: string): string[] {
  return hierarchies()
    .map((hierarchy) => path.join(hierarchy, name))
    .filter((directory) => existsSync(directory));
}

/**
 * Removes a cgroup with all below it, whose processes have ended or are just ending: waits up to two seconds for them.
 * Synchronous, for the exit of a process.
 */
export function removeCgroup(name: string): void {
  const deadline = Date.now() + 2000;
  for (;;) {
    for (const directory of foldersOfCgroup(name)) removeTree(directory);
    if (foldersOfCgroup(name).length === 0 || Date.now() > deadline) return;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
}

function removeTree(directory: string): void {
  try {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (entry.isDirectory()) removeTree(path.join(directory, entry.name));
    }
    rmdirSync(directory);
  } catch {
    // A process is still in it, or another name of the hierarchy led here before.
  }
}
