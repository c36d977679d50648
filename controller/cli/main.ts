#!/usr/bin/env node
import { buffer } from 'node:stream/consumers';
import { version } from '../../shared/version.js';
import type { CliIo } from './cli-io.js';
import { terminalOf, useTerminal } from './view/terminal.js';

/** The `culvert` command. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // A reader that closes the pipe early (`culvert get all | head`) is not an error.
  if (error.code === 'EPIPE') process.exit(0);
  const hint = error.code === 'ENOSPC' ? 'free space on its disk' : 'check where the output goes';
  process.stderr.write(`culvert: cannot write the output: ${error.message} (${hint}) [OUTPUT]\n`);
  process.exit(1);
});

const argv = process.argv.slice(2);
const io: CliIo = {
  print: (text) => process.stdout.write(`${text}\n`),
  printError: (text) => process.stderr.write(`${text}\n`),
  readStdin: () => buffer(process.stdin),
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
