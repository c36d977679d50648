import { stringify } from 'yaml';
import type { LoadedSettings, SettingSource } from '../../shared/config/load-settings.js';
import { formatSetting, type SettingsTable } from '../../shared/config/settings-table.js';

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

/** The same as YAML that could be a configuration file, with the sources as comments. */
export function formatConfiguration(shown: Readonly<Record<string, ShownSetting>>): string {
  return Object.entries(shown)
    .map(([key, { value, source }]) =>
      value === '' ? `# ${key}: not set` : `${key}: ${stringify(value).trim()} # ${source}`,
    )
    .join('\n');
}
