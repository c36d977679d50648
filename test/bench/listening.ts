import { readFileSync } from 'node:fs';
import type { LabProcess } from '../lab/lab-process.js';
import { waitUntil } from '../lab/wait-until.js';

/** Resolves when something listens on the TCP port in the namespace of this process; rejects when the process ends first. */
export async function waitForListener(labProcess: LabProcess, port: number, deadlineMs = 10_000): Promise<void> {
  await waitUntil(
    `something listens on port ${port}`,
    async () => {
      // The error contains the program's last lines.
      labProcess.requireRunning();
      return isListening(labProcess.pid, port) ? true : undefined;
    },
    deadlineMs,
  );
}

/** /proc/PID/net/tcp and tcp6 show the network namespace of that process; state 0A is LISTEN (proc_net_tcp). */
function isListening(pid: number, port: number): boolean {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return ['tcp', 'tcp6'].some((name) =>
    readIfThere(`/proc/${pid}/net/${name}`)
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .some(([, local = '', , state]) => state === '0A' && local.endsWith(suffix)),
  );
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
