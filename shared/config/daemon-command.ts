import { Command } from 'commander';
import { version } from '../version.js';

/** The command line of a program that runs until it is stopped; `exitOf` has its exit codes. main.ts ends the process. */
export function daemonCommand(o: { readonly name: string; readonly description: string }): Command {
  return (
    new Command(o.name)
      .description(o.description)
      .version(version)
      .addHelpText(
        'after',
        '\nExit codes: 0 done, 64 the command line or a file that it names is unusable, 1 any other failure',
      )
      .showHelpAfterError('(see --help)')
      // Commands inherit it.
      .exitOverride()
  );
}
