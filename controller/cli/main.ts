#!/usr/bin/env node
import { readUpTo } from '../../shared/named-file.js';
import { processOutput, watchOutput } from '../../shared/program/output.js';
import { version } from '../../shared/version.js';
import type { CliIo } from './cli-io.js';
import { terminalOf, useTerminal } from './view/terminal.js';

/** The `culvert` command. */
watchOutput({ program: 'culvert', exit: (code) => process.exit(code) });

const argv = process.argv.slice(2);
const io: CliIo = {
  ...processOutput,
  readStdin: (maxBytes) => readUpTo(process.stdin, maxBytes),
  env: process.env,
  nowMs: Date.now,
};
useTerminal(terminalOf(process.stdout, process.env));

if (argv.length === 1 && (argv[0] === '--version' || argv[0] === '-V')) io.print(version);
else {
  // The version needs none of the libraries, and programs ask for it often.
  const { runCli } = await import('./program.js');
  process.exitCode = await runCli(argv, io);
}
