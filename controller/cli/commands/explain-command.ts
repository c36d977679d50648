import type { Command } from 'commander';
import type { Cli } from '../cli.js';
import { findKind } from '../../resources/kinds/resource.js';
import { kindOf } from '../input/resource-name.js';
import { CliError } from '../exit-codes.js';
import { fieldsNamed, renderExplain, renderPart, suggested } from '../view/render-explain.js';

/** `culvert explain`: says what a kind or a field of it means. Needs no controller. */
export function addExplainCommand(program: Command, cli: Cli): void {
  program
    .command('explain')
    .description('Explain a kind of document or one of its fields. Needs no controller.')
    .argument('<kind[.field]>', 'such as rule, or rule.spec.from.cidr')
    .addHelpText('after', '\nExample: culvert explain rule.spec.from')
    .action((text: string) => {
      const dot = text.indexOf('.');
      const part = findKind(text) === undefined ? renderPart(text) : null;
      if (part !== null) return cli.io.print(part);
      const word = dot === -1 ? text : text.slice(0, dot);
      if (findKind(word) === undefined) requireKind(text);
      const kind = kindOf(word);
      cli.io.print(renderExplain(kind, dot === -1 ? undefined : text.slice(dot + 1)));
    });
}

/** Throws CliError (notFound) when the text is the path of a field without its kind. */
function requireKind(text: string): void {
  const named = fieldsNamed(text);
  if (named.length === 0) return;
  const message = `"${text}" is no kind, but a field of one`;
  throw new CliError({ exit: 'notFound', code: 'NOT_FOUND', message, hint: suggested(named) });
}
