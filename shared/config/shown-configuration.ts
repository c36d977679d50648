import { stringify } from 'yaml';
import type { LoadedSettings, SettingSource } from './load-settings.js';
import { formatSetting, type SettingSpec, type SettingsTable } from './settings-table.js';

export type ShownSetting = { readonly value: string; readonly source: SettingSource };

/** Effective values in the spelling of the configuration file, and where each came from. Secrets are not shown. */
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

/** The same as a configuration file would say it, with the sources as comments. What a file cannot say is a comment. */
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
