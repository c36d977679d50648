import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { type CommandOptions, type CommandResult, runCommand } from '../../lab/command.js';
import { Cluster } from '../cluster/cluster.js';
import { ownPlan } from '../target.js';

const culvertProgram = path.resolve(import.meta.dirname, '../../../programs/culvert.js');

/** A folder with `culvert` of this clone and, for a cluster of our own, its `kubectl`, as a user has them in the PATH. */
export class CommandFolder implements Disposable {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'culvert-commands-'));

  constructor() {
    this.add('culvert', [process.execPath, culvertProgram]);
    const plan = ownPlan();
    if (plan === null) return;
    this.add('kubectl', Cluster.open(plan).usersKubectl);
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }

  /** Runs a line of a shell in the folder to its end, whatever its exit code. */
  run(line: string, options?: CommandOptions): Promise<CommandResult> {
    const { PATH: usual = '' } = process.env;
    const env = { ...process.env, ...options?.env, PATH: `${this.directory}:${usual}` };
    return runCommand(['sh', '-c', line], { cwd: this.directory, ...options, env });
  }

  /** The same, for a line that must succeed. Returns what it printed. */
  async succeed(line: string, options?: CommandOptions): Promise<string> {
    const { code, stdout, stderr } = await this.run(line, options);
    if (code === 0) return stdout;
    throw new Error(`"${line}" ended with ${code}: ${stdout}${stderr}`);
  }

  /** Gives these words a name of one word. */
  add(name: string, argv: readonly string[]): void {
    const words = argv.map((word) => `'${word}'`).join(' ');
    writeFileSync(path.join(this.directory, name), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
  }
}
