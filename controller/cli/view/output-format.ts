import { Option, type Command } from 'commander';
import { lazyYaml } from './lazy-yaml.js';

export const outputFormats = ['table', 'json', 'yaml'] as const;
export type OutputFormat = (typeof outputFormats)[number];

export function addOutputOption(command: Command): Command {
  return command.addOption(
    new Option('-o, --output <format>', 'output format').choices(outputFormats).default('table'),
  );
}

/** Renders data for programs. Callers render tables themselves. */
export function renderData(data: unknown, format: 'json' | 'yaml'): string {
  return format === 'json'
    ? JSON.stringify(data, null, 2)
    : lazyYaml().stringify(data, { aliasDuplicateObjects: false }).trimEnd();
}

/** Renders documents as YAML that can be applied again. */
export function renderDocuments(documents: readonly unknown[]): string {
  return documents.map((document) => renderData(document, 'yaml')).join('\n---\n');
}
