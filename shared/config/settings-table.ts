import { formatBytes, formatDuration } from './units.js';

/**
 * One row for each setting of a program. The table generates the command line's options and help, the environment
 * variables, the keys of the configuration file, the validation and the settings documentation.
 */
type Row<Kind extends string, Value> = {
  readonly kind: Kind;
  /** Long option, such as `--connect-timeout`. */
  readonly flag: `--${string}`;
  /** Environment variable, `CULVERT_…`. */
  readonly env: `CULVERT_${string}`;
  /** Key in the YAML configuration file, camel case. */
  readonly key: string;
  /** The value if the setting is not set; null: it has no default. */
  readonly default: Value | null;
  readonly help: string;
  /** A valid value, shown in errors. */
  readonly example: string;
  /** Never printed. */
  readonly isSecret?: true;
};
/** What a text must be, as the end of "--node "X" …"; null: the text is one. */
type Worded = { readonly problemOf?: (text: string) => string | null };
type Bounded = { readonly min?: number; readonly max?: number };

export type SettingSpec =
  | (Row<'duration', number> & Bounded)
  | (Row<'bytes', number> & Bounded)
  | (Row<'integer', number> & Bounded)
  | Row<'boolean', boolean>
  | (Row<'string', string> & Worded)
  | Row<'path', string>
  | Row<'list', readonly string[]>
  | (Row<'enum', string> & { readonly values: readonly string[] });

export type SettingsTable = Readonly<Record<string, SettingSpec>>;

type RawValue<S extends SettingSpec> = S extends { kind: 'duration' | 'bytes' | 'integer' }
  ? number
  : S extends { kind: 'boolean' }
    ? boolean
    : S extends { kind: 'list' }
      ? readonly string[]
      : S extends { kind: 'enum'; values: readonly (infer V)[] }
        ? V
        : string;

/** Durations are in milliseconds, sizes in bytes. A setting whose default is null may be null. */
export type SettingValue<S extends SettingSpec> = S extends { default: null } ? RawValue<S> | null : RawValue<S>;

export type SettingsOf<T extends SettingsTable> = { readonly [K in keyof T]: SettingValue<T[K]> };

/** The values of one table among those of several. */
export function pickSettings<T extends SettingsTable>(table: T, values: SettingsOf<T>): SettingsOf<T> {
  const picked = Object.keys(table).map((name) => [name, values[name]]);
  return Object.fromEntries(picked) as SettingsOf<T>;
}

/** Keeps the literal types of a table for {@link SettingsOf}. */
export function defineSettings<const T extends SettingsTable>(table: T): T {
  return table;
}

/** Formats a value the way a user would write it: `5s`, `4MiB`, `a,b`. */
export function formatSetting(spec: SettingSpec, value: unknown): string {
  if (value === null || value === undefined) return '';
  if (spec.isSecret === true) return '(secret)';
  if (spec.kind === 'duration' && typeof value === 'number') return formatDuration(value);
  if (spec.kind === 'bytes' && typeof value === 'number') return formatBytes(value);
  return typeof value === 'string' ? value : Array.isArray(value) ? value.join(',') : JSON.stringify(value);
}

/** The settings as a Markdown table for the documentation (a test compares them). */
export function renderSettingsTable(table: SettingsTable): string {
  const rows = Object.values(table).map((spec) => {
    const fallback = formatSetting(spec, spec.default);
    const help = spec.kind === 'enum' ? `${spec.help} One of ${spec.values.join(', ')}.` : spec.help;
    return `| \`${spec.key}\` | \`${spec.flag}\` | \`${spec.env}\` | ${fallback === '' ? '' : `\`${fallback}\``} | ${help} |`;
  });
  return ['| key | option | environment | default | what it does |', '| --- | --- | --- | --- | --- |', ...rows].join(
    '\n',
  );
}
