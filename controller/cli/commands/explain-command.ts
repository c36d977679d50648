import type { Command } from 'commander';
import type { Cli } from '../cli.js';
import { findKind } from '../../resources/kinds/resource.js';
import { kindOf } from '../input/resource-name.js';
import { renderExplain, renderPart } from '../view/render-explain.js';

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
      const kind = kindOf(dot === -1 ? text : text.slice(0, dot));
      cli.io.print(renderExplain(kind, dot === -1 ? undefined : text.slice(dot + 1)));
    });
}
