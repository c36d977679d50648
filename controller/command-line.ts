import { Argument, type Command } from 'commander';
import { CulvertError } from '../shared/errors.js';
import type { LoadedSettings } from '../shared/config/load-settings.js';
import { formatConfiguration } from '../shared/config/shown-configuration.js';
import { addSettingOptions, settingsOfCommand } from '../shared/config/setting-options.js';
import { createLog, flushLog } from '../shared/log.js';
import { daemonExitCodes, programCommand, type ProgramOutput } from '../shared/program/program-command.js';
import type { RotationStep } from './ca/root-rotation.js';
import { controllerSettings } from './config/settings.js';
import type { Cut } from './run.js';

// Each command loads only its own code: all of it takes four times as long as Node itself.

const rotationSteps = ['prepare', 'activate', 'finish'] as const satisfies readonly RotationStep[];

type Loaded = LoadedSettings<typeof controllerSettings>;

/** Runs a command and ends the process. */
export type Finish = (task: () => Promise<void>) => Promise<void>;

/** The command line of `culvert-controller`. */
export function controllerCommandLine(finish: Finish, output: ProgramOutput, cut: Cut = thrown): Command {
  const { print } = output;
  const program = programCommand({
    name: 'culvert-controller',
    description: 'Stores, compiles and distributes the rules of a mesh, and runs its certificate authority.',
    exitCodes: daemonExitCodes,
    output,
  });

  const run = command(program, 'run', 'Run the controller (the default).', true);
  run.action(() =>
    finish(async () => {
      const { values } = await settingsOf(run);
      const log = createLog({ name: 'culvert-controller', level: values.logLevel });
      try {
        const { runController } = await import('./run.js');
        await runController({ settings: values, log }, cut);
      } finally {
        await flushLog(log);
      }
    }),
  );

  const config = command(program, 'config', 'Show the effective settings and where each comes from.');
  config.option('--print', 'print them to the standard output (the default, and the only action)');
  config.action(() => finish(async () => print(formatConfiguration(await settingsOf(config), controllerSettings))));

  const ca = program.command('ca').description('Export, import and rotate the certificate authority.');

  const exporting = command(ca, 'export', 'Write the CA and its key to a PKCS#12 file.')
    .requiredOption('--out <file>', 'file to write; it must not exist')
    .requiredOption('--password-file <file>', 'file whose first line is the password')
    .option('--remove', 'then remove the key of the root from the state directory, to keep it off line', false);
  exporting.action((options: { out: string; passwordFile: string; remove: boolean }) =>
    finish(async () => {
      const { out, passwordFile, remove: removesRoot } = options;
      const { exportCa } = await import('./ca/ca-commands.js');
      print(await exportCa((await settingsOf(exporting)).values, out, passwordFile, { removesRoot }));
    }),
  );

  const importing = command(
    ca,
    'import',
    'Sign with the CA in a PKCS#12 file (a root, or an issuing CA with its chain).',
  )
    .requiredOption('--in <file>', 'PKCS#12 file')
    .requiredOption('--password-file <file>', 'file whose first line is the password')
    .option('--replace', 'replace an existing CA, which stays trusted until it expires', false)
    .option('--force', 'sign with it at once, although not every agent trusts its root yet', false)
    .option('--without-root', 'keep only an issuing CA made with an imported root, not the key of the root', false);
  importing.action((options: ImportOptions) =>
    finish(async () => {
      const { in: file, passwordFile, replace: replaces, force: isForced, withoutRoot } = options;
      const source = { file, passwordFile, replaces, isForced, withoutRoot };
      const { importCa } = await import('./ca/ca-commands.js');
      print(await importCa((await settingsOf(importing)).values, source));
    }),
  );

  const rotating = command(ca, 'rotate', 'Replace the root CA in three steps without interruption.')
    .addArgument(new Argument('<step>', 'the step').choices(rotationSteps))
    .option('--force', 'do the step although not every agent has confirmed the one before', false);
  rotating.action((step: RotationStep, { force }: { force: boolean }) =>
    finish(async () => {
      const { values } = await settingsOf(rotating);
      const { rotateCa } = await import('./ca/ca-commands.js');
      const { takeUpOf } = await import('./ca/open-mesh-ca.js');
      print(await rotateCa(values, step, { isForced: force, takeUp: takeUpOf(values) }));
    }),
  );

  const keys = program.command('keys').description('Encrypt the keys in the state directory.');
  const changing = command(
    keys,
    'change',
    'Encrypt every key with another passphrase, or write them in the clear. Stop the controller first.',
  )
    .option('--new-passphrase-file <file>', 'file whose first line is the new passphrase, or credential:NAME')
    .option('--plain', 'write them in the clear', false);
  changing.action(({ newPassphraseFile, plain }: { newPassphraseFile?: string; plain: boolean }) =>
    finish(async () => {
      if (plain === (newPassphraseFile !== undefined)) throw unclearChange();
      const { changeKeys } = await import('./ca/ca-commands.js');
      print(await changeKeys((await settingsOf(changing)).values, newPassphraseFile ?? null));
    }),
  );

  return program;
}

function thrown(error: unknown): never {
  throw error;
}

function unclearChange(): CulvertError {
  return new CulvertError({
    code: 'USAGE',
    message: 'say what the keys are to be encrypted with',
    hint: 'name one of --new-passphrase-file and --plain',
  });
}

type ImportOptions = {
  readonly in: string;
  readonly passwordFile: string;
  readonly replace: boolean;
  readonly force: boolean;
  readonly withoutRoot: boolean;
};

/** A command with an option for every setting. */
function command(parent: Command, name: string, description: string, isDefault = false): Command {
  return addSettingOptions(parent.command(name, { isDefault }).description(description), controllerSettings);
}

function settingsOf(self: Command): Promise<Loaded> {
  return settingsOfCommand(self, controllerSettings, process.env);
}
