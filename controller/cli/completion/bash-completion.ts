import type { CompletionCommand } from './completion-tree.js';

/** A completion for bash. All words in it come from the program itself. */
export function bashCompletion(commands: readonly CompletionCommand[]): string {
  const moves = commands.flatMap(({ path, subcommands }) =>
    subcommands.map(({ name }) => `      "${path} ${name}") path="${path} ${name}"; at=0 ;;`),
  );
  const values = commands.flatMap(({ path, options }) =>
    options
      .filter(({ choices }) => choices.length > 0)
      .map(({ long, short, choices }) => {
        const names = [long, ...(short === null ? [] : [short])].map((name) => `"${path}:${name}"`);
        return `    ${names.join('|')}) COMPREPLY=($(compgen -W "${choices.join(' ')}" -- "$cur")); return ;;`;
      }),
  );
  const free = commands.flatMap(({ path, options }) =>
    options
      .filter(({ takesValue, choices }) => takesValue && choices.length === 0)
      .flatMap(({ long, short }) => [long, ...(short === null ? [] : [short])].map((name) => `"${path}:${name}"`)),
  );
  const words = commands.map(({ path, subcommands, options, words: first }) => {
    const names = options.flatMap(({ long, short }) => [long, ...(short === null ? [] : [short])]);
    const plain = [...subcommands.map(({ name }) => name), ...first];
    return `    "${path}") options="${names.join(' ')}"; words="${plain.join(' ')}" ;;`;
  });
  return `# Completion of culvert for bash. Made by: culvert completion bash
_culvert() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" path=culvert at=0 i options= words=
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path \${COMP_WORDS[i]}" in
${moves.join('\n')}
      *" -"*) ;;
      *) at=$((at + 1)) ;;
    esac
  done
  case "$path:$prev" in
${values.join('\n')}
    ${free.join('|')}) return ;;
  esac
  case "$path" in
${words.join('\n')}
  esac
  if [[ "$cur" == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$cur"))
  elif ((at == 0)); then COMPREPLY=($(compgen -W "$words" -- "$cur")); fi
}
complete -o default -F _culvert culvert`;
}
