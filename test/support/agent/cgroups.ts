import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** A cgroup (v2) of its own, which goes with the last process in it. */
export class TestCgroup implements Disposable {
  readonly path: string;
  readonly #directory: string;

  /** `path`: of one that was disposed of; default: a new one. */
  constructor(path = `/culvert-test-${randomBytes(4).toString('hex')}`) {
    this.path = path;
    this.#directory = join(cgroupMount(), path);
    mkdirSync(this.#directory);
  }

  /** Runs a program in it, and returns what that prints. */
  async run(program: string, args: readonly string[]): Promise<string> {
    const enter = `echo 0 >"$0/cgroup.procs" && exec "$@"`;
    const { stdout } = await execute('sh', ['-c', enter, this.#directory, program, ...args]);
    return stdout;
  }

  /** Moves a process into it. */
  take(pid: number): void {
    writeFileSync(join(this.#directory, 'cgroup.procs'), String(pid));
  }

  /** Moves this process into it until the result is disposed of: what it opens meanwhile is of this cgroup. */
  enter(): Disposable {
    const found = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
    this.take(process.pid);
    return {
      [Symbol.dispose]: () => writeFileSync(join(cgroupMount(), found, 'cgroup.procs'), String(process.pid)),
    };
  }

  [Symbol.dispose](): void {
    rmdirSync(this.#directory);
  }
}

/** One of a path that has no process any more. */
export function removeCgroup(path: string): void {
  rmdirSync(join(cgroupMount(), path));
}

function cgroupMount(): string {
  const table = readFileSync('/proc/self/mountinfo', 'utf8');
  const found = /^\d+ \d+ \S+ \/ (\S+) .* - cgroup2 /m.exec(table)?.[1];
  if (found === undefined) throw new Error('these tests need cgroup v2: mount -t cgroup2 none DIRECTORY');
  return found;
}
