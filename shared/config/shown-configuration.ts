import { stringify } from 'yaml';
import type { LoadedSettings, SettingSource } from './load-settings.js';
import { formatSetting, type SettingSpec, type SettingsTable } from './settings-table.js';

export type ShownSetting = { readonly value: string; readonly source: SettingSource };

/** Effective values as written in the configuration file, and the source of each. Secrets are hidden. */
export function shownConfiguration<T extends SettingsTable>(
  loaded: LoadedSettings<T>,
  table: T,
): Readonly<Record<string, ShownSetting>> {
  return Object.fromEntries(
    Object.entries(table).map(([name, spec]) => {
      const value = loaded.values[name as keyof T];
      return [spec.key, { value: formatSetting(spec, value), source: loaded.sources[name as keyof T] }];
    }),
  );
}

/**
 * The same as the text of a configuration file, with sources as comments. Values that a file cannot express are
 * comments.
 */
export function formatConfiguration<T extends SettingsTable>(loaded: LoadedSettings<T>, table: T): string {
  return Object.entries(table)
    .map(([name, spec]) => {
      const value: unknown = loaded.values[name as keyof T];
      if (value === null) return `# ${spec.key}: not set`;
      const line = spec.isSecret === true ? `# ${spec.key}: (secret)` : yamlLine(spec, value);
      return `${line} # ${loaded.sources[name as keyof T]}`;
    })
    .join('\n');
}

function yamlLine(spec: SettingSpec, value: unknown): string {
  const isPlain = spec.kind === 'list' || spec.kind === 'integer' || spec.kind === 'boolean';
  const shown = isPlain ? value : formatSetting(spec, value);
  const yaml = stringify(shown, { flowCollectionPadding: false, collectionStyle: 'flow', lineWidth: 0 });
  return `${spec.key}: ${yaml.trim()}`;
}
