import { setTimeout as delay } from 'node:timers/promises';
import { Argument, type Command } from 'commander';
import { CulvertError } from '../shared/errors.js';
import type { LoadedSettings } from '../shared/config/load-settings.js';
import { formatConfiguration } from '../shared/config/shown-configuration.js';
import { addSettingOptions, settingsOfCommand } from '../shared/config/setting-options.js';
import { createLog, flushLog } from '../shared/log.js';
import { daemonExitCodes, programCommand, type ProgramOutput } from '../shared/program/program-command.js';
import { startController, type ControllerOptions } from './app.js';
import { changeKeys, exportCa, importCa, rotateCa } from './ca/ca-commands.js';
import { takeUpOf } from './ca/open-mesh-ca.js';
import { rotationSteps, type RotationStep } from './ca/root-rotation.js';
import { parseListenAddress } from '../shared/config/listen-address.js';
import { controllerSettings, type ControllerSettings } from './config/settings.js';
import { awaitTurn, type Turn } from './stand-by.js';

/** For a start that a signal stops: a crash at any point is mended by the next one. */
const startGraceMs = 10_000;

type Loaded = LoadedSettings<typeof controllerSettings>;

/** Runs a command and ends the process. */
export type Finish = (task: () => Promise<void>) => Promise<void>;

/** Ends the process at once, without closing anything. */
export type Cut = (error: unknown) => never;

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
      print(await importCa((await settingsOf(importing)).values, source));
    }),
  );

  const rotating = command(ca, 'rotate', 'Replace the root CA in three steps without interruption.')
    .addArgument(new Argument('<step>', 'the step').choices(rotationSteps))
    .option('--force', 'do the step although not every agent has confirmed the one before', false);
  rotating.action((step: RotationStep, { force }: { force: boolean }) =>
    finish(async () => {
      const { values } = await settingsOf(rotating);
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

/**
 * Runs until SIGTERM, SIGINT or SIGHUP, then closes everything in order. A second signal ends the process at once. With a
 * lease it stands by until its turn. `cut` ends it when the turn is over before its time, or the lock of its state lost.
 */
async function runController(options: ControllerOptions, cut: Cut): Promise<void> {
  const { settings, log } = options;
  const stopped = new Promise<NodeJS.Signals>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(name, resolve);
  });
  const { kubernetesLease: lease } = settings;
  if (lease === null) return await serve({ ...options, onStateLost: cut }, stopped);
  const stop = new AbortController();
  void stopped.then(() => stop.abort());
  const turn = await awaitTurn({ settings, lease, signal: stop.signal, log });
  if (turn === null) return log.info({ signal: await stopped }, 'stopping');
  void turn.lost.then(cut);
  log.info({ lease }, 'this controller has the lease, and serves');
  try {
    await serve({ ...options, onStateLost: cut }, stopped, turn);
  } finally {
    await turn[Symbol.asyncDispose]();
  }
}

async function serve(options: ControllerOptions, stopped: Promise<NodeJS.Signals>, turn?: Turn): Promise<void> {
  const { settings, log } = options;
  const starting = startController({ ...options, ...(turn === undefined ? {} : { replicas: turn.replicas }) });
  const tooLate = stopped.then(async (signal) => {
    await delay(startGraceMs, undefined, { ref: false });
    throw new CulvertError({
      code: 'START_CUT',
      message: `stopped by ${signal} while it started, which did not end within ${startGraceMs / 1000} s`,
      hint: 'see in its log what the start waited for',
    });
  });
  // It may come when the controller runs, and then says nothing.
  tooLate.catch(() => undefined);
  const controller = await Promise.race([starting, tooLate]);
  const ports = { https: controller.port, ...natsPortOf(settings) };
  void controller.ready.then(() => turn?.serve(ports)).catch(() => undefined);
  const signal = await stopped;
  log.info({ signal }, 'stopping');
  await controller[Symbol.asyncDispose]();
}

/** Of the embedded server; others have addresses of their own. */
function natsPortOf({ nats, natsListen }: ControllerSettings): Readonly<Record<string, number>> {
  return nats === 'embedded' ? { nats: parseListenAddress(natsListen, '--nats-listen').port } : {};
}

/** A command with an option for every setting. */
function command(parent: Command, name: string, description: string, isDefault = false): Command {
  return addSettingOptions(parent.command(name, { isDefault }).description(description), controllerSettings);
}

function settingsOf(self: Command): Promise<Loaded> {
  return settingsOfCommand(self, controllerSettings, process.env);
}
