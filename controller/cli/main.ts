#!/usr/bin/env node
import { buffer } from 'node:stream/consumers';
import { runCli } from './program.js';

/** The `culvert` command. */
// A reader that closes the pipe early (`culvert get all | head`) is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await runCli(process.argv.slice(2), {
  print: (text) => process.stdout.write(`${text}\n`),
  printError: (text) => process.stderr.write(`${text}\n`),
  readStdin: () => buffer(process.stdin),
  env: process.env,
  nowMs: Date.now,
});
