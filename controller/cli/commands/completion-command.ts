import { Argument, type Command } from 'commander';
import type { Cli } from '../cli.js';
import { bashCompletion } from '../completion/bash-completion.js';
import { fishCompletion } from '../completion/fish-completion.js';
import { completionTree } from '../completion/completion-tree.js';
import { zshCompletion } from '../completion/zsh-completion.js';

const shells = ['bash', 'zsh', 'fish'] as const;
const completions = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };

/** `culvert completion`: prints a script that completes commands, options and kinds. */
export function addCompletionCommand(program: Command, cli: Cli): void {
  program
    .command('completion')
    .description('Print a script that lets a shell complete commands, options and kinds.')
    .addArgument(new Argument('<shell>', 'the shell').choices(shells))
    .addHelpText('after', '\nExample: culvert completion bash > /etc/bash_completion.d/culvert')
    .addHelpText('after', 'Example: culvert completion zsh > "${fpath[1]}/_culvert"')
    .addHelpText('after', 'Example: culvert completion fish > ~/.config/fish/completions/culvert.fish')
    .action(async (shell: (typeof shells)[number]) => {
      const commands = completionTree(await cli.completeProgram());
      cli.io.print(completions[shell](commands));
    });
}
