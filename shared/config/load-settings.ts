import { CulvertError } from '../errors.js';
import { nearestName } from '../nearest-name.js';
import { parseSetting } from './parse-setting.js';
import type { SettingsOf, SettingsTable } from './settings-table.js';

export type SettingSource = 'flag' | 'environment' | 'file' | 'default';

export type LoadedSettings<T extends SettingsTable> = {
  readonly values: SettingsOf<T>;
  /** Where each effective value came from. */
  readonly sources: Readonly<Record<keyof T, SettingSource>>;
};

/**
 * Merges the sources: option before environment before file before default. `flags` is keyed by the table's names;
 * `file` is the parsed configuration file, or undefined without one.
 *
 * Throws CulvertError `CONFIG_INVALID` whose message lists every problem, one per line, with place, value and example.
 */
export function loadSettings<T extends SettingsTable>(input: {
  readonly table: T;
  readonly flags: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly file: unknown;
}): LoadedSettings<T> {
  const problems: string[] = [];
  const file = fileContent(input.file, problems);
  unknownNames(input.table, file, input.env, problems);

  const values: Record<string, unknown> = {};
  const sources: Record<string, SettingSource> = {};
  for (const [name, spec] of Object.entries(input.table)) {
    const candidates: readonly (readonly [SettingSource, string, unknown])[] = [
      ['flag', spec.flag, input.flags[name]],
      ['environment', spec.env, input.env[spec.env]],
      ['file', spec.key, file[spec.key]],
    ];
    const found = candidates.find(([, , raw]) => raw !== undefined);
    sources[name] = found?.[0] ?? 'default';
    values[name] = spec.default;
    if (found === undefined) continue;
    const [, place, raw] = found;
    const parsed = parseSetting(spec, raw);
    if (parsed.ok) values[name] = parsed.value;
    else
      problems.push(
        `${place}: ${spec.isSecret === true ? 'the value' : JSON.stringify(raw)} ${parsed.problem}, such as ${spec.example}`,
      );
  }
  if (problems.length > 0) {
    throw new CulvertError({
      code: 'CONFIG_INVALID',
      message: `the configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n  ${problems.join('\n  ')}`,
    });
  }
  return { values: values as SettingsOf<T>, sources: sources as Record<keyof T, SettingSource> };
}

function fileContent(file: unknown, problems: string[]): Readonly<Record<string, unknown>> {
  if (file === undefined || file === null) return {};
  if (typeof file === 'object' && !Array.isArray(file)) return file as Record<string, unknown>;
  problems.push('configuration file: must be a YAML mapping of keys to values, such as "logLevel: info"');
  return {};
}

function unknownNames(
  table: SettingsTable,
  file: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
  problems: string[],
): void {
  const keys = new Set(Object.values(table).map((spec) => spec.key));
  for (const key of Object.keys(file)) {
    if (!keys.has(key)) problems.push(`${key}: unknown key${suggestion(nearestName(key, keys))}`);
  }
  const prefix = environmentPrefix(table);
  const variables = new Set<string>(Object.values(table).map((spec) => spec.env));
  for (const name of Object.keys(env)) {
    if (prefix !== '' && name.startsWith(prefix) && !variables.has(name) && !isServiceLink(name)) {
      problems.push(`${name}: unknown environment variable${suggestion(nearestName(name, variables))}`);
    }
  }
}

/** `CULVERT_AGENT_` if all variables of the table share it. Other variables with this prefix are then typing errors. */
function environmentPrefix(table: SettingsTable): string {
  const first = Object.values(table)[0]?.env.split('_').slice(0, 2).join('_');
  if (first === undefined) return '';
  return Object.values(table).every((spec) => spec.env.startsWith(`${first}_`)) ? `${first}_` : '';
}

/**
 * Whether Kubernetes gave this variable to each pod of a namespace, for a Service there with the name of the program
 * (`CULVERT_AGENT_PORT_80_TCP_ADDR`): the programs have no settings of such names.
 */
function isServiceLink(name: string): boolean {
  return /_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/.test(name);
}

function suggestion(nearest: string | undefined): string {
  return nearest === undefined ? '' : `; did you mean ${nearest}?`;
}
