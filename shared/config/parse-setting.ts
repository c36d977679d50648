import type { SettingSpec } from './settings-table.js';
import { formatSetting } from './settings-table.js';
import { parseBytes, parseDuration } from './units.js';

/** The longest that a timer of Node can wait is 2^31 - 1 ms; it fires at once for more. */
const longestTimerMs = 24 * 86_400_000;

export type ParsedSetting =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly problem: string };

/** Parses one value: text from an option or the environment, or a YAML value from the file. */
export function parseSetting(spec: SettingSpec, raw: unknown): ParsedSetting {
  switch (spec.kind) {
    case 'duration':
      return bounded(
        spec,
        typeof raw === 'string' || raw === 0 ? parseDuration(String(raw)) : undefined,
        'a time with a unit (ms, s, m, h, d)',
      );
    case 'bytes':
      return bounded(
        spec,
        typeof raw === 'string' || raw === 0 ? parseBytes(String(raw)) : undefined,
        'a size with a unit (B, KiB, MiB, GiB)',
      );
    case 'integer':
      return bounded(spec, parseInteger(raw), 'a whole number');
    case 'boolean':
      return parseBoolean(raw);
    case 'string':
    case 'path':
      return parseText(raw, spec.kind === 'string' ? spec.problemOf : undefined);
    case 'list':
      return parseList(raw);
    case 'enum':
      return typeof raw === 'string' && spec.values.includes(raw)
        ? { ok: true, value: raw }
        : refuse(`must be one of ${spec.values.join(', ')}`);
  }
}

function refuse(problem: string): ParsedSetting {
  return { ok: false, problem };
}

function parseText(raw: unknown, problemOf?: (text: string) => string | null): ParsedSetting {
  if (typeof raw !== 'string' || raw === '') return refuse('must be a non-empty text');
  const problem = problemOf?.(raw) ?? null;
  return problem === null ? { ok: true, value: raw } : refuse(problem);
}

function parseInteger(raw: unknown): number | undefined {
  if (typeof raw === 'number' && Number.isSafeInteger(raw)) return raw;
  return typeof raw === 'string' && /^-?\d{1,15}$/.test(raw) ? Number(raw) : undefined;
}

function parseBoolean(raw: unknown): ParsedSetting {
  if (raw === true || raw === 'true') return { ok: true, value: true };
  if (raw === false || raw === 'false') return { ok: true, value: false };
  return refuse('must be true or false');
}

function parseList(raw: unknown): ParsedSetting {
  const items: unknown[] =
    typeof raw === 'string' ? raw.split(',').map((item) => item.trim()) : Array.isArray(raw) ? raw : [null];
  return items.every((item) => typeof item === 'string' && item !== '')
    ? { ok: true, value: items }
    : refuse('must be a list of texts, separated by commas');
}

function bounded(
  spec: Extract<SettingSpec, { kind: 'duration' | 'bytes' | 'integer' }>,
  value: number | undefined,
  what: string,
): ParsedSetting {
  if (value === undefined) return refuse(`must be ${what}`);
  if (spec.min !== undefined && value < spec.min) return refuse(`must be at least ${formatSetting(spec, spec.min)}`);
  const max = spec.max ?? (spec.kind === 'duration' ? longestTimerMs : undefined);
  if (max !== undefined && value > max) return refuse(`must be at most ${formatSetting(spec, max)}`);
  return { ok: true, value };
}
