import { readFileSync } from 'node:fs';
import { waitUntil } from '../../lab/wait-until.js';

export type LogLine = Readonly<Record<string, unknown>> & { readonly level: string; readonly msg: string };

/** The lines of a process's log (JSON, one a line) whose message contains a text, in their order. */
export function loggedIn(logFile: string, message: string): readonly LogLine[] {
  return readFileSync(logFile, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line) as LogLine)
    .filter((line) => typeof line.msg === 'string' && line.msg.includes(message));
}

/** The first such line beyond the first `seen`, now or within the deadline. */
export function waitForLog(
  logFile: string,
  message: string,
  o: { seen?: number; deadlineMs?: number } = {},
): Promise<LogLine> {
  return waitUntil(
    `a line "${message}" in the log`,
    () => loggedIn(logFile, message)[o.seen ?? 0],
    o.deadlineMs ?? 10_000,
  );
}
