import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import type { MeshAgent } from '../../lab/mesh-agent.js';
import { loggedIn } from './log-lines.js';

/** The process id of the agent that a supervisor runs at the moment, by its last start. */
export function childPid(agent: MeshAgent): number {
  const pid = Number(loggedIn(agent.logFile, 'agent started').at(-1)?.['pid']);
  if (!Number.isInteger(pid)) throw new Error(`no agent was started on ${agent.name}`);
  return pid;
}

/** The process id of the privileged helper of a running agent, which is its only child. */
export function helperPid(agent: number): number {
  const [pid] = readFileSync(`/proc/${agent}/task/${agent}/children`, 'utf8').split(' ').filter(Boolean);
  if (pid === undefined) throw new Error(`the agent ${agent} has no helper`);
  return Number(pid);
}

/** Whether a process has ended, also where its parent has not asked yet. */
export function hasEnded(pid: number): boolean {
  const status = existsSync(`/proc/${pid}`) ? readFileSync(`/proc/${pid}/status`, 'utf8') : 'State:\tZ';
  return /^State:\t[ZX]/m.test(status);
}

/** How often the supervisor has found its child dead. */
export function deaths(agent: MeshAgent): number {
  return loggedIn(agent.logFile, 'the agent exited; restarting it').length;
}

/** Makes every start of the agent fail, by a directory in the place of a state file; returns what mends it. */
export function breakStateDirectory(agent: MeshAgent): () => void {
  const file = path.join(agent.stateDir, 'credentials.json');
  renameSync(file, `${file}.kept`);
  mkdirSync(file);
  return () => {
    rmdirSync(file);
    renameSync(`${file}.kept`, file);
  };
}
