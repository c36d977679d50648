import type { Command } from 'commander';
import { daemonCommand } from '../shared/config/daemon-command.js';
import type { LoadedSettings } from '../shared/config/load-settings.js';
import { formatConfiguration } from '../shared/config/shown-configuration.js';
import { addSettingOptions, settingsOfCommand } from '../shared/config/setting-options.js';
import { CulvertError } from '../shared/errors.js';
import { createLog, flushLog } from '../shared/log.js';
import { startController, type ControllerOptions } from './app.js';
import { exportCa, importCa, rotateCa } from './ca/ca-commands.js';
import { rotationSteps, type RotationStep } from './ca/root-rotation.js';
import { controllerSettings } from './config/settings.js';

type Loaded = LoadedSettings<typeof controllerSettings>;

/** Runs a command and ends the process. */
export type Finish = (task: () => Promise<void>) => Promise<void>;

/** The command line of `culvert-controller`. */
export function controllerCommandLine(finish: Finish): Command {
  const program = daemonCommand({
    name: 'culvert-controller',
    description: 'Stores, compiles and distributes the rules of a mesh, and runs its certificate authority.',
  });

  const run = command(program, 'run', 'Run the controller (the default).', true);
  run.action(() =>
    finish(async () => {
      const { values } = settingsOf(run);
      const log = createLog({ name: 'culvert-controller', level: values.logLevel });
      try {
        await runController({ settings: values, log });
      } finally {
        await flushLog(log);
      }
    }),
  );

  const config = command(program, 'config', 'Show the effective settings and where each comes from.');
  config.option('--print', 'print them to the standard output (the default, and the only action)');
  config.action(() => finish(async () => print(formatConfiguration(settingsOf(config), controllerSettings))));

  const ca = program.command('ca').description('Export, import and rotate the certificate authority.');

  const exporting = command(ca, 'export', 'Write the CA and its key to a PKCS#12 file.')
    .requiredOption('--out <file>', 'file to write; it must not exist')
    .requiredOption('--password-file <file>', 'file whose first line is the password');
  exporting.action((options: { out: string; passwordFile: string }) =>
    finish(async () => print(await exportCa(settingsOf(exporting).values, options.out, options.passwordFile))),
  );

  const importing = command(
    ca,
    'import',
    'Sign with the CA in a PKCS#12 file (a root, or an issuing CA with its chain).',
  )
    .requiredOption('--in <file>', 'PKCS#12 file')
    .requiredOption('--password-file <file>', 'file whose first line is the password')
    .option('--replace', 'replace an existing CA, which stays trusted until it expires', false)
    .option('--force', 'sign with it at once, although not every agent trusts its root yet', false);
  importing.action((options: { in: string; passwordFile: string; replace: boolean; force: boolean }) =>
    finish(async () => {
      const { in: file, passwordFile, replace: replaces, force: isForced } = options;
      const source = { file, passwordFile, replaces, isForced };
      print(await importCa(settingsOf(importing).values, source));
    }),
  );

  const rotating = command(ca, 'rotate', 'Replace the root CA in three steps without interruption.')
    .argument('<step>', `one of ${rotationSteps.join(', ')}`)
    .option('--force', 'do the step although not every agent has confirmed the one before', false);
  rotating.action((step: string, { force }: { force: boolean }) =>
    finish(async () => {
      if (!isRotationStep(step)) {
        throw new CulvertError({
          code: 'USAGE',
          message: `"${step}" is not a step`,
          hint: `use one of ${rotationSteps.join(', ')}`,
        });
      }
      print(await rotateCa(settingsOf(rotating).values, step, { isForced: force }));
    }),
  );

  return program;
}

/** Runs until SIGTERM, SIGINT or SIGHUP, then closes everything in order. A second signal ends the process at once. */
async function runController(options: ControllerOptions): Promise<void> {
  const { log } = options;
  const stopped = new Promise<NodeJS.Signals>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(name, resolve);
  });
  const controller = await startController(options);
  const signal = await stopped;
  log.info({ signal }, 'stopping');
  await controller[Symbol.asyncDispose]();
}

/** A command with an option for every setting. */
function command(parent: Command, name: string, description: string, isDefault = false): Command {
  return addSettingOptions(parent.command(name, { isDefault }).description(description), controllerSettings);
}

function settingsOf(self: Command): Loaded {
  return settingsOfCommand(self, controllerSettings, process.env);
}

function isRotationStep(text: string): text is RotationStep {
  return rotationSteps.some((step) => step === text);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
