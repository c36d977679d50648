import { readFileSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { parse } from 'yaml';
import { CulvertError } from '../errors.js';
import { loadSettings, type LoadedSettings } from './load-settings.js';
import { formatSetting, type SettingsTable } from './settings-table.js';

/** Adds `--config` and one option per setting to a command. {@link settingsOfCommand} validates the values. */
export function addSettingOptions(command: Command, table: SettingsTable): Command {
  command.option('--config <file>', 'YAML file with settings; options and environment take precedence');
  for (const spec of Object.values(table)) {
    const fallback = formatSetting(spec, spec.default);
    const choices = spec.kind === 'enum' ? ` (${spec.values.join(' | ')})` : '';
    const shown = fallback === '' ? '' : `, default ${fallback}`;
    const argument = spec.kind === 'boolean' ? '[true|false]' : `<${spec.kind}>`;
    const option = new Option(`${spec.flag} ${argument}`, `${spec.help}${choices} (${spec.env}${shown})`);
    command.addOption(spec.kind === 'boolean' ? option.preset('true') : option);
  }
  return command;
}

/**
 * The effective settings of a parsed command. Throws CulvertError `CONFIG_INVALID` with all problems, or
 * `CONFIG_UNREADABLE` if the file of `--config` cannot be read or is not YAML.
 */
export function settingsOfCommand<T extends SettingsTable>(
  command: Command,
  table: T,
  env: Readonly<Record<string, string | undefined>>,
): LoadedSettings<T> {
  const options = command.opts<Record<string, unknown>>();
  const flags: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(table)) flags[name] = options[camelCase(spec.flag.slice(2))];
  const path = options['config'];
  return loadSettings({ table, flags, env, file: typeof path === 'string' ? readConfigurationFile(path) : undefined });
}

function readConfigurationFile(path: string): unknown {
  try {
    return parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new CulvertError({
      code: 'CONFIG_UNREADABLE',
      message: `cannot read the configuration file ${path}: ${detail}`,
      hint: 'pass an existing YAML file with --config',
      cause,
    });
  }
}

/** Matches how commander derives an option's attribute from its name. */
function camelCase(text: string): string {
  return text.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}
