import type { CompletionCommand } from './completion-tree.js';

/** A completion for fish. All words in it come from the program itself. */
export function fishCompletion(commands: readonly CompletionCommand[]): string {
  const lines = commands.flatMap((command) => {
    const condition = `__culvert_at "${command.path}"`;
    const words = command.words.map((word) => ({ name: word, text: '' }));
    const arguments_ = [...command.subcommands, ...words].map(
      ({ name, text }) =>
        `complete -c culvert -f -n '${condition}' -a ${quoted(name)}${text === '' ? '' : ` -d ${quoted(text)}`}`,
    );
    const options = command.options.map(({ long, short, text, takesValue, choices }) => {
      const names = [`-l ${long.replace(/^--/, '')}`, ...(short === null ? [] : [`-s ${short.slice(1)}`])];
      const value = choices.length > 0 ? ` -x -a ${quoted(choices.join(' '))}` : takesValue ? ' -r' : '';
      return `complete -c culvert -n '${condition}' ${names.join(' ')}${value} -d ${quoted(text)}`;
    });
    return [...arguments_, ...options];
  });
  const paths = commands.map(({ path }) => quoted(path)).join(' ');
  return `# Completion of culvert for fish. Made by: culvert completion fish
function __culvert_at
    set -l paths ${paths}
    set -l path culvert
    for word in (commandline -opc)[2..-1]
        if contains -- "$path $word" $paths
            set path "$path $word"
        end
    end
    test "$path" = "$argv[1]"
end
${lines.join('\n')}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
