import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { labUser } from '../../lab/programs.js';

const native = new URL('../../../agent/native/', import.meta.url).href;

/** What a question to a confined process gave: a value, or the code and message of what was thrown. */
export type Outcome = { readonly value?: unknown; readonly code?: string; readonly message?: string };

/**
 * Runs questions in a process of their own that has a privileged helper and has given up all else, as an agent does: a process
 * does so for ever. Each is JavaScript, an expression that may wait; `helper`, `addon`, `assert`, `fs`, `cp` and `netns` (the
 * namespace, open) are there. `tokenFile`: what the helper may read in addition. `homePath`: the namespace in which the process
 * and its helper are; default: that of the tests.
 */
export async function askConfined(
  questions: Readonly<Record<string, string>>,
  netnsPath: string,
  tokenFile: string | null = null,
  homePath: string | null = null,
): Promise<Readonly<Record<string, Outcome>>> {
  return await ask(questions, { netnsPath, tokenFile, homePath, isConfined: true });
}

/** As {@link askConfined}, in a process that stays root and so can end its helper (`child`), or take descriptors from both. */
export async function askWithHelper(
  questions: Readonly<Record<string, string>>,
  netnsPath: string,
): Promise<Readonly<Record<string, Outcome>>> {
  return await ask(questions, { netnsPath, tokenFile: null, homePath: null, isConfined: false });
}

async function ask(
  questions: Readonly<Record<string, string>>,
  o: {
    readonly netnsPath: string;
    readonly tokenFile: string | null;
    readonly homePath: string | null;
    readonly isConfined: boolean;
  },
): Promise<Readonly<Record<string, Outcome>>> {
  const { netnsPath, tokenFile, homePath, isConfined } = o;
  const script = `
    import fs from 'node:fs';
    import assert from 'node:assert/strict';
    import cp from 'node:child_process';
    import * as sockets from '${native}addon.js';
    import * as dials from '${native}dial-sockets.js';
    import * as namespaces from '${native}netns.js';
    import * as helper from '${native}helper.js';
    const addon = { ...sockets, ...dials, ...namespaces };
    const child = helper.startHelper({ tokenFile: ${JSON.stringify(tokenFile)} });
    helper.pingHelper();
    ${isConfined ? `helper.confine(${JSON.stringify(labUser)});` : ''}
    const netns = addon.openNetns(${JSON.stringify(netnsPath)});
    const run = (argv, input = '', netnsFd = netns.fd) => helper.runThroughHelper({ netnsFd, argv, input });
    const restore = (...lines) => run(['iptables-restore', '--noflush', '-w', '5'], lines.map((line) => line + '\\n').join(''));
    const outcomes = {};
    const ask = async (name, question) => {
      try { outcomes[name] = { value: await question() }; }
      catch (error) { outcomes[name] = { code: error.code ?? error.name, message: error.message }; }
    };
    ${Object.entries(questions)
      .map(([name, question]) => `await ask(${JSON.stringify(name)}, async () => (${question}));`)
      .join('\n')}
    process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));`;
  const node = [process.execPath, '--input-type=module', '-e', script] as const;
  const [program, ...args] = homePath === null ? node : (['nsenter', `--net=${homePath}`, '--', ...node] as const);
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, errors] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  if (out === '') throw new Error(`the confined process gave no answer: ${errors}`);
  return JSON.parse(out) as Readonly<Record<string, Outcome>>;
}
