import type { CompletionCommand } from './completion-tree.js';

/**
 * A completion for zsh: as a file `_culvert` in `fpath`, or read by `source` after `compinit`. All words in it come from the
 * program itself.
 */
export function zshCompletion(commands: readonly CompletionCommand[]): string {
  const moves = commands.flatMap(({ path, subcommands }) =>
    subcommands.map(({ name }) => `      "${path} ${name}") at_command="${path} ${name}"; at=0 ;;`),
  );
  const values = commands.flatMap(({ path, options }) =>
    options
      .filter(({ takesValue }) => takesValue)
      .map(({ long, short, choices }) => {
        const names = [long, ...(short === null ? [] : [short])].map((name) => `"${path}:${name}"`);
        const action = choices.length === 0 ? '_files' : `compadd -- ${choices.map(quoted).join(' ')}`;
        return `    ${names.join('|')}) ${action}; return ;;`;
      }),
  );
  const words = commands.map(({ path, subcommands, options, words: first }) => {
    const names = options.flatMap(({ long, short, text }) =>
      [long, ...(short === null ? [] : [short])].map((name) => described(name, text)),
    );
    const plain = [
      ...subcommands.map(({ name, text }) => described(name, text)),
      ...first.map((name) => described(name, '')),
    ];
    return `    "${path}") options=(${names.join(' ')}); names=(${plain.join(' ')}) ;;`;
  });
  return `#compdef culvert
# Completion of culvert for zsh. Made by: culvert completion zsh
_culvert() {
  local at_command=culvert at=0 i
  local -a options names
  for ((i = 2; i < CURRENT; i++)); do
    case "$at_command \${words[i]}" in
${moves.join('\n')}
      *" -"*) ;;
      *) ((at += 1)) ;;
    esac
  done
  case "$at_command:\${words[CURRENT-1]}" in
${values.join('\n')}
  esac
  case "$at_command" in
${words.join('\n')}
  esac
  if [[ "$PREFIX" == -* ]]; then _describe -o option options
  elif ((at == 0 && \${#names})); then _describe command names
  else _files; fi
}
if [[ "\${funcstack[1]}" == _culvert ]]; then _culvert "$@"; else compdef _culvert culvert; fi`;
}

/** A word and its text as `_describe` takes them. */
function described(name: string, text: string): string {
  const word = name.replaceAll(':', '\\:');
  return quoted(text === '' ? word : `${word}:${text}`);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
