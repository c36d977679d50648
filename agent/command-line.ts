import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import type { LoadedSettings } from '../shared/config/load-settings.js';
import { formatConfiguration } from '../shared/config/shown-configuration.js';
import { addSettingOptions, settingsOfCommand } from '../shared/config/setting-options.js';
import { createLog, flushLog, type Log } from '../shared/log.js';
import {
  daemonExitCodes,
  programCommand,
  runCommandLine,
  type ProgramOutput,
} from '../shared/program/program-command.js';
import type { IpAddress } from '../shared/address.js';
import { version } from '../shared/version.js';
import { noExclusions } from './capture/namespace-capture.js';
import { formatHostRules, formatWorkloadRules } from './capture/firewall/rules-text.js';
import { parseProbers } from './capture/firewall/probers.js';
import { assertCanCapture, assertCanRun } from './capture/assert-can-capture.js';
import { agentSettingsTable, dataplaneThreads, failModeProblem } from './config/agent-settings.js';
import { namespacePath } from './control/workloads/network-namespace.js';
import { WarmWorkers } from './dataplane/pool/warm-workers.js';
import { resolveNodeName } from './control/join/node-name.js';
import type { FailOpener } from './fail-opener.js';
import type { ExitStatus } from './run.js';

/** Runs a command to its end; it gives the exit code. */
export type Finish = (run: () => Promise<ExitStatus>) => Promise<void>;

/** What the supervisor starts again. */
const mainFile = fileURLToPath(new URL('main.js', import.meta.url));

type Loaded = LoadedSettings<typeof agentSettingsTable>;

/** The command line of `culvert-agent`. */
export function agentCommandLine(finish: Finish, output: ProgramOutput): Command {
  const { print, printError } = output;
  const program = agentProgram(output);

  /** A command with all settings; `action` returns the exit code. */
  function command(
    name: string,
    description: string,
    action: (loaded: Loaded, self: Command) => Promise<ExitStatus>,
  ): Command {
    const self = program.command(name, { isDefault: name === 'run' }).description(description);
    addSettingOptions(self, agentSettingsTable);
    self.action(() => finish(async () => action(await settingsOfCommand(self, agentSettingsTable, process.env), self)));
    return self;
  }

  command('run', 'Run the agent (the default).', async (loaded) => {
    assertCanRun(loaded.values);
    // Each command loads only its own code, and the data-plane threads load theirs meanwhile: a start must be fast.
    using threads = new WarmWorkers({ count: dataplaneThreads(loaded.values) });
    const { runAgent } = await import('./run.js');
    return await runAgent({ loaded, log: logOf(loaded), spawn: (init) => threads.take(init) });
  });

  command('join', 'Join the mesh with a token, and do nothing else.', async ({ values }) => {
    const { joinOnce } = await import('./control/join/membership.js');
    const { StateDirectory } = await import('./control/state/state-directory.js');
    const settings = { ...values, node: resolveNodeName(values.node) };
    const directory = new StateDirectory({ path: values.stateDir });
    const log = createLog({ name: 'culvert-agent', level: 'error' });
    const { signal } = new AbortController();
    const joined = await joinOnce({ settings, directory, version, log, signal });
    print(`joined: node ${joined.node}, trust domain ${joined.trustDomain}`);
    const { findRunningAgent } = await import('./control/succession/predecessor.js');
    const running = findRunningAgent(values.stateDir);
    if (running === null) return 0;
    const { tellRejoined } = await import('./control/join/tell-rejoined.js');
    const problem = await tellRejoined(values.stateDir);
    if (problem === null) print(`the agent that runs (pid ${running.pid}) uses the new credentials`);
    else {
      printError(
        `the agent that runs (pid ${running.pid}) does not use the new credentials: ${problem}; restart it (systemctl restart culvert-agent)`,
      );
    }
    return 0;
  });

  program
    .command('supervise')
    .description('Run the agent as a child process and restart it if it dies. Settings follow after "--".')
    .argument('[settings...]', 'options of "run"')
    .allowUnknownOption()
    .action((settings: string[]) =>
      finish(async () => {
        const probe = addSettingOptions(agentProgram(output), agentSettingsTable);
        await runCommandLine(probe, settings);
        const loaded = await settingsOfCommand(probe, agentSettingsTable, process.env);
        assertCanRun(loaded.values);
        const { shareHelper } = await import('./native/helper.js');
        shareHelper(loaded.values);
        const log = logOf(loaded);
        const { Supervisor } = await import('./supervise.js');
        const { requireNoAgent } = await import('./control/succession/predecessor.js');
        const { KeptSockets } = await import('./control/succession/kept-sockets.js');
        const { stateDir, failMode, takeOver } = loaded.values;
        // Its child would refuse to start, again and again.
        if (!takeOver) requireNoAgent(stateDir);
        const kept = new KeptSockets({ stateDir, log, env: process.env });
        const supervisor = new Supervisor({
          argv: [process.execPath, ...process.execArgv, mainFile, 'run', ...settings],
          opener: failMode === 'closed' ? null : await loadFailOpener({ stateDir, log, onOpen: () => kept.drop() }),
          kept,
          log,
        });
        process.on('SIGHUP', () => supervisor.replace());
        for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => supervisor.stop(name));
        const code = await supervisor.run();
        await flushLog(log);
        return code;
      }),
    );

  program
    .command('helper')
    .description(
      'Be the privileged helper of the agents of a user, on the socket that systemd passes (culvert-helper.socket).',
    )
    .option('--user <user>', 'who may ask: a name of /etc/passwd, or a UID', agentSettingsTable.user.default)
    .action(({ user }: { user: string }) =>
      finish(async () => {
        assertCanCapture();
        const { findUser } = await import('./host-user.js');
        const { becomeHelper } = await import('./native/helper.js');
        becomeHelper(findUser(user), process.env);
        return 1;
      }),
    );

  command(
    'check',
    'Check whether this host has what an agent needs: programs, user, cgroup, and an iptables whose rules count, which is tried in a network namespace of its own. Changes nothing. Exits with 1 when a check fails.',
    async ({ values }, self) => {
      const { checkHost } = await import('./check-host.js');
      const checks = await checkHost(values);
      const marks = { ok: '✔', warn: '!', fail: '✖' } as const;
      const line = ({ check, state, message, hint }: (typeof checks)[number]): string =>
        `${marks[state]} ${check}: ${message}${hint === '' ? '' : ` (${hint})`}`;
      print(self.opts<{ json?: true }>().json === true ? JSON.stringify(checks, null, 2) : checks.map(line).join('\n'));
      return checks.some(({ state }) => state === 'fail') ? 1 : 0;
    },
  ).option('--json', 'print the results as JSON');

  command('rules', 'Show the capture rules that the agent loads.', async ({ values }, self) => {
    const { netns = [] } = self.opts<{ netns?: string[] }>();
    const paths = netns.length === 0 ? ['/run/netns/WORKLOAD'] : netns.map(namespacePath);
    if (netns.length > 0) {
      for (const path of paths.filter((path) => !existsSync(path))) printError(`note: there is no namespace ${path}`);
    }
    for (const netnsPath of paths) print(formatWorkloadRules({ netnsPath, exclusions: noExclusions }));
    const probers = parseProbers(values.hostProbes);
    // An address for documentation (RFC 5737).
    if (probers.length > 0) print(formatHostRules(['192.0.2.1' as IpAddress], probers));
    return 0;
  })
    .option('--print', 'print them to standard output (the default and only action)')
    .option('--netns <netns...>', 'namespaces to show the rules for, by name or path');

  command(
    'remove',
    'Remove capture from every workload and from the host; traffic then passes unprotected. Refused while an agent ' +
      'runs. Exit codes: 0 nothing is left, 1 something is left, 2 an agent runs and nothing was removed.',
    async ({ values }, self) => {
      assertCanCapture();
      const { netns = [] } = self.opts<{ netns?: string[] }>();
      const log = createLog({ name: 'culvert-agent', level: 'error' });
      const { removeCapture } = await import('./remove.js');
      const { stateDir, cniConfigDir, cniBinDir } = values;
      const cni = cniConfigDir === null ? null : { configDirectory: cniConfigDir, binDirectory: cniBinDir };
      const removal = await removeCapture({ stateDir, cni, netnsPaths: netns.map(namespacePath), log });
      for (const place of removal.removed) print(`removed: ${place}`);
      if (removal.removed.length === 0 && removal.problem === null) print('nothing to remove');
      if (removal.problem !== null) printError(`culvert-agent: ${removal.problem}`);
      return removal.exitCode;
    },
  ).option('--netns <netns...>', 'more namespaces, by name or path, that the state directory does not list');

  command('config', 'Show the effective settings and where each comes from.', async (loaded) => {
    print(formatConfiguration(loaded, agentSettingsTable));
    const problem = failModeProblem(loaded.values, false);
    if (problem !== null) printError(`note: ${problem}`);
    return 0;
  }).option('--print', 'print them to standard output (the default and only action)');

  return program;
}

function agentProgram(output: ProgramOutput): Command {
  return programCommand({
    name: 'culvert-agent',
    description: 'Encrypts, authorises and measures the TCP connections of the workloads on this host.',
    exitCodes: daemonExitCodes,
    output,
  });
}

/** It reads state files, whose schemas are the slowest library to load; most supervisors never open anything. */
async function loadFailOpener(init: ConstructorParameters<typeof FailOpener>[0]): Promise<FailOpener> {
  return new (await import('./fail-opener.js')).FailOpener(init);
}

function logOf(loaded: Loaded): Log {
  return createLog({ name: 'culvert-agent', level: loaded.values.logLevel });
}
