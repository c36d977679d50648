import type { LoadedSettings } from '../shared/config/load-settings.js';
import { flushLog, type Log } from '../shared/log.js';
import { startAgent, type RunningAgent } from './app.js';
import { findMissingTools } from './capture/firewall/command-runner.js';
import { agentSettingsTable } from './config/agent-settings.js';
import { shownConfiguration } from '../shared/config/shown-configuration.js';
import { CulvertError } from '../shared/errors.js';
import type { FromSupervised, ToSupervised } from './supervise.js';

/**
 * Runs one agent until a signal ends it: the first SIGTERM or SIGINT drains, the second stops at once. Capture rules
 * stay unless the settings say otherwise, because an upgrade must not open the mesh. Losing the supervisor also stops
 * the agent, so that two agents never run side by side. Throws CulvertError if the agent cannot start. Returns what the
 * process must end with.
 */
export async function runAgent(o: {
  readonly loaded: LoadedSettings<typeof agentSettingsTable>;
  readonly log: Log;
}): Promise<ExitStatus> {
  const { loaded, log } = o;
  await assertCanCapture();
  const stop = new StopSignals();
  const agent = await startAgent({
    settings: loaded.values,
    log,
    shownConfiguration: shownConfiguration(loaded, agentSettingsTable),
    onServing: () => tellSupervisor({ type: 'serving' }),
  });
  log.info({ ports: agent.ports }, 'agent started');
  listenToSupervisor(agent, log);
  try {
    await Promise.race([stop.first, agent.joined.then(() => stop.first)]);
    log.info({ graceMs: loaded.values.drainTimeoutMs, removesCapture: loaded.values.removeOnExit }, 'agent stopping');
    const { hasThreadsLeft } = await agent.stop({
      graceMs: loaded.values.drainTimeoutMs,
      removesCapture: loaded.values.removeOnExit,
      atOnce: stop.second,
    });
    log.info('agent stopped');
    return hasThreadsLeft ? { atOnce: 0 } : 0;
  } finally {
    await agent[Symbol.asyncDispose]();
    await flushLog(log);
  }
}

/**
 * Checks for root and for the programs that capture runs. Throws CulvertError with one line that says what to install.
 */
export async function assertCanCapture(): Promise<void> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    throw new CulvertError({
      code: 'NOT_ROOT',
      message: 'the agent needs Linux and root, because it works in the network namespaces of workloads',
      hint: 'start it with sudo, or as the systemd unit',
    });
  }
  const missing = await findMissingTools();
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((tool) => tool.debianPackage))].join(' ');
  throw new CulvertError({
    code: 'TOOL_MISSING',
    message: `${missing.map((tool) => tool.command).join(', ')} is missing`,
    hint: `install it with: apt-get install ${packages}`,
  });
}

/** An exit code. `atOnce`: without waiting for threads that cannot be ended. */
export type ExitStatus = number | { readonly atOnce: number };

/** The first signal requests a graceful stop, the second an immediate one. */
class StopSignals {
  readonly first: Promise<void>;
  readonly second: AbortSignal;

  constructor() {
    const second = new AbortController();
    this.second = second.signal;
    this.first = new Promise((resolve) => {
      let count = 0;
      const onSignal = (): void => {
        count++;
        if (count === 1) resolve();
        else second.abort();
      };
      for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, onSignal);
      process.once('disconnect', onSignal);
    });
  }
}

function tellSupervisor(message: FromSupervised): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

function listenToSupervisor(agent: RunningAgent, log: Log): void {
  process.on('message', (message: ToSupervised) => {
    if (message.type !== 'recheck-capture') return;
    agent.recheckCapture().catch((error: unknown) => log.error({ err: error }, 'capture could not be checked'));
  });
}
