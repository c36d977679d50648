import { Option, type Command } from 'commander';
import { parse } from 'yaml';
import { CulvertError } from '../errors.js';
import { readNamedFile } from '../named-file.js';
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

/** More than any configuration needs. */
const maxFileBytes = 1024 * 1024;

/**
 * The effective settings of a parsed command. Throws CulvertError `CONFIG_INVALID` with all problems, or
 * `CONFIG_UNREADABLE` if the file of `--config` cannot be read or is not YAML.
 */
export async function settingsOfCommand<T extends SettingsTable>(
  command: Command,
  table: T,
  env: Readonly<Record<string, string | undefined>>,
): Promise<LoadedSettings<T>> {
  const options = command.opts<Record<string, unknown>>();
  const flags: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(table)) flags[name] = options[camelCase(spec.flag.slice(2))];
  const path = options['config'];
  const file = typeof path === 'string' ? await readConfigurationFile(path) : undefined;
  return loadSettings({ table, flags, env, file });
}

async function readConfigurationFile(path: string): Promise<unknown> {
  const file = await readNamedFile(path, { maxBytes: maxFileBytes });
  if (!file.isRead) throw unreadable(path, file.problem, file.cause);
  try {
    return parse(new TextDecoder('utf-8', { fatal: true }).decode(file.bytes));
  } catch (cause) {
    const isText = (cause as NodeJS.ErrnoException).code !== 'ERR_ENCODING_INVALID_ENCODED_DATA';
    const detail = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw unreadable(path, isText ? `it is not YAML: ${detail}` : 'it is not UTF-8 text', cause);
  }
}

function unreadable(path: string, problem: string, cause: unknown): CulvertError {
  return new CulvertError({
    code: 'CONFIG_UNREADABLE',
    message: `cannot read the configuration file ${path}: ${problem}`,
    hint: 'pass an existing YAML file with --config',
    cause,
  });
}

/** Matches how commander derives an option's attribute from its name. */
function camelCase(text: string): string {
  return text.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}
