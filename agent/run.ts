import { rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { LoadedSettings } from '../shared/config/load-settings.js';
import { flushLog, type Log } from '../shared/log.js';
import { startAgent } from './app.js';
import type { WarmWorkers } from './dataplane/pool/warm-workers.js';
import { agentSettingsTable, failModeProblem } from './config/agent-settings.js';
import { filesHint, filesProblem } from './config/open-files.js';
import { shownConfiguration } from '../shared/config/shown-configuration.js';
import { assertNever } from '../shared/assert-never.js';
import { ReadyFile } from './admin/ready-file.js';
import { startCniInstaller } from './control/cni/cni.js';
import { learnsUninstalled } from './control/followers/uninstalled.js';
import { takeInheritedSockets } from './control/succession/kept-sockets.js';
import { findRunningAgent } from './control/succession/predecessor.js';
import { separatePrivileges } from './privileges.js';
import {
  firstInheritedFd,
  inheritedCount,
  sharesRules,
  SupervisedRules,
  type FromSupervised,
  type ToSupervised,
} from './supervised.js';

const socketsQuietMs = 50;
/** Between two looks for the agent that took over. */
const serverLookMs = 1000;
const looksWithoutAgent = 3;

/**
 * Runs one agent until a signal ends it: the first SIGTERM, SIGINT or SIGHUP (its terminal closed) drains, the second
 * stops at once. Capture rules stay unless the settings say otherwise, because an upgrade must not open the mesh.
 * Losing the supervisor also stops the agent, so that two agents never run side by side. Throws CulvertError if the
 * agent cannot start. Returns what the process must end with.
 */
export async function runAgent(o: {
  readonly loaded: LoadedSettings<typeof agentSettingsTable>;
  readonly log: Log;
  /** Starts a data-plane thread. */
  readonly spawn: WarmWorkers['take'];
}): Promise<ExitStatus> {
  const { loaded, log } = o;
  const stop = new StopSignals();
  const modeProblem = failModeProblem(loaded.values, process.connected);
  if (modeProblem !== null) log.warn({ failMode: loaded.values.failMode }, modeProblem);
  const short = filesProblem(loaded.values);
  if (short !== null) log.warn({ hint: filesHint(loaded.values) }, `few files may be open: ${short}`);
  // It stays root.
  const cniInstaller = startCniInstaller(loaded.values);
  const { cgroup, helperLost } = separatePrivileges(loaded.values, process.connected ? process.ppid : null);
  let isKept = false;
  let recheckCapture = async (): Promise<void> => undefined;
  const rules = sharedRules();
  listenToSupervisor({
    rules,
    onKept: () => (isKept = true),
    onRecheck: () =>
      void recheckCapture().catch((error: unknown) => log.error({ err: error }, 'capture could not be checked')),
  });
  const { readyFile, stateDir, whenReplaced } = loaded.values;
  // One that a killed process has left says nothing of this one.
  if (readyFile !== null) rmSync(readyFile, { force: true });
  const agent = await startAgent({
    settings: loaded.values,
    log,
    shownConfiguration: shownConfiguration(loaded, agentSettingsTable),
    failModeProblem: modeProblem,
    cgroup,
    cniInstaller,
    kept: inheritedSockets(),
    spawn: o.spawn,
    ...(rules === null ? {} : { ownership: rules }),
    onServing: () => tellSupervisor({ type: 'serving' }),
    onSockets: announceSockets(),
    stopping: stop.requested,
  });
  log.info({ ports: agent.ports }, 'agent started');
  recheckCapture = () => agent.recheckCapture();
  let isReplaced = false;
  void agent.succeeded.then(() => (isReplaced = true));
  const isReady = (): boolean => !isReplaced && agent.isServing();
  using _ready = readyFile === null ? null : new ReadyFile({ path: readyFile, isReady, log });
  try {
    const why = await Promise.race([
      stop.first.then(() => 'stopped' as const),
      agent.succeeded.then(() => 'succeeded' as const),
      agent.joined.then(() => stop.first).then(() => 'stopped' as const),
      helperLost,
      agent.moved,
    ]);
    if (typeof why !== 'string') {
      log.error({ err: why }, 'the agent ends: its rules stay, so nothing passes until the next one serves');
      throw why;
    }
    if (why === 'succeeded') {
      tellSupervisor({ type: 'succeeded' });
      cniInstaller?.close();
      log.info({}, 'another agent took over this host; open connections may end here');
    }
    const { drainTimeoutMs: graceMs, removeOnExit, removeWhenUninstalled } = loaded.values;
    const isUninstalled =
      why === 'stopped' &&
      removeWhenUninstalled &&
      (await learnsUninstalled({ look: () => agent.isUninstalled(), signal: stop.second }));
    const removesCapture = removeOnExit || isUninstalled;
    log.info({ graceMs, removesCapture, isUninstalled }, 'agent stopping');
    const { hasThreadsLeft } = await agent.stop({
      graceMs,
      removesCapture,
      atOnce: stop.second,
      isServing: isKept && why === 'stopped',
    });
    log.info('agent stopped');
    if (why === 'succeeded' && whenReplaced === 'stay') await stayWhileServed({ stateDir, log, stop: stop.first });
    return hasThreadsLeft ? { atOnce: 0 } : 0;
  } finally {
    cniInstaller?.close();
    await agent[Symbol.asyncDispose]();
    await flushLog(log);
  }
}

/**
 * Until a signal comes, or no agent has served this host for some looks. Then a supervisor starts this one again, which
 * serves.
 */
async function stayWhileServed(o: {
  readonly stateDir: string;
  readonly log: Log;
  readonly stop: Promise<void>;
}): Promise<void> {
  o.log.info({}, 'staying until this agent is stopped, because another one serves this host');
  for (let missed = 0; missed < looksWithoutAgent;) {
    const isStopped = await Promise.race([o.stop.then(() => true), delay(serverLookMs, false)]);
    if (isStopped) return;
    missed = isServed(o.stateDir) ? 0 : missed + 1;
  }
  o.log.warn({}, 'the agent that took over has gone: this one ends, to be started again');
}

/** Also by one that does not answer in time. */
function isServed(stateDir: string): boolean {
  try {
    return findRunningAgent(stateDir) !== null;
  } catch {
    return true;
  }
}

/** An exit code. `atOnce`: without waiting for threads that cannot be ended. */
export type ExitStatus = number | { readonly atOnce: number };

/** The first signal requests a graceful stop, the second an immediate one. */
class StopSignals {
  readonly first: Promise<void>;
  /** Aborts with the first. */
  readonly requested: AbortSignal;
  readonly second: AbortSignal;

  constructor() {
    const requested = new AbortController();
    const second = new AbortController();
    this.requested = requested.signal;
    this.second = second.signal;
    this.first = new Promise((resolve) => {
      let count = 0;
      const onSignal = (): void => {
        count++;
        if (count > 1) {
          second.abort();
          return;
        }
        requested.abort();
        resolve();
      };
      for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(name, onSignal);
      process.once('disconnect', onSignal);
    });
  }
}

function tellSupervisor(message: FromSupervised): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

/** Null: the supervisor changes no rules, or there is none. */
function sharedRules(): SupervisedRules | null {
  const isShared = process.env[sharesRules] === '1' && process.connected;
  delete process.env[sharesRules];
  return isShared ? new SupervisedRules({ tell: tellSupervisor }) : null;
}

/** Before the agent starts: messages go to those who listen when the first one comes. */
function listenToSupervisor(o: {
  readonly rules: SupervisedRules | null;
  readonly onKept: () => void;
  readonly onRecheck: () => void;
}): void {
  process.once('disconnect', () => o.rules?.onAlone());
  process.on('message', (message: ToSupervised) => {
    switch (message.type) {
      case 'sockets-outlive-you':
        o.onKept();
        return;
      case 'recheck-capture':
        o.onRecheck();
        return;
      case 'rules-taken':
        o.rules?.onTaken(message.netnsInode);
        return;
      default:
        assertNever(message);
    }
  });
}

/** The listening sockets that the supervisor kept from the agent before. */
function inheritedSockets(): readonly number[] {
  const count = Number(process.env[inheritedCount] ?? 0);
  delete process.env[inheritedCount];
  return takeInheritedSockets({ first: firstInheritedFd, count });
}

/** Tells the supervisor once a burst of changes is over. */
function announceSockets(): () => void {
  let timer: NodeJS.Timeout | null = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      tellSupervisor({ type: 'sockets' });
    }, socketsQuietMs);
    timer.unref();
  };
}
