import { defaultValues } from '../../../controller/install/install-options.js';
import { valueAt, valueNotes } from '../../../controller/install/install-values.js';
import { version } from '../../../shared/version.js';
import { markdownTable } from '../markdown-table.js';

/** Every value of the chart, with its default and what it means. */
export function renderChartValues(): string {
  const values = { ...defaultValues(version), namespace: '' };
  const rows = Object.entries(valueNotes).map(([path, { help }]) => {
    const value = valueAt(values, path);
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return [`\`${path}\``, text === '' ? '' : `\`${text}\``, help] as const;
  });
  return markdownTable(['value', 'default', 'what it means'], rows);
}
