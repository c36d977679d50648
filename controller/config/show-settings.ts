import { stringify } from 'yaml';
import type { LoadedSettings } from '../../shared/config/load-settings.js';
import { formatSetting } from '../../shared/config/settings-table.js';
import { controllerSettings } from './settings.js';

/** The effective settings as a configuration file would say them, each with where it came from. */
export function showSettings({ values, sources }: LoadedSettings<typeof controllerSettings>): string {
  return Object.entries(controllerSettings)
    .map(([name, spec]) => {
      const key = name as keyof typeof controllerSettings;
      const value = values[key];
      const shown = Array.isArray(value) ? value : value === null ? null : formatSetting(spec, value);
      const line = stringify({ [spec.key]: shown }, { flowCollectionPadding: false, collectionStyle: 'flow' }).trim();
      return `${line.replace(/^\{|\}$/g, '')} # ${sources[key]}`;
    })
    .join('\n');
}
