import { Option, type Command } from 'commander';
import { lazyYaml } from './lazy-yaml.js';

const outputFormats = ['table', 'json', 'yaml'] as const;
export type OutputFormat = (typeof outputFormats)[number];

export function addOutputOption(command: Command): Command {
  return command.addOption(
    new Option('-o, --output <format>', 'output format').choices(outputFormats).default('table'),
  );
}

/** Renders data for programs, with each point in time as a text too. Callers render tables themselves. */
export function renderData(data: unknown, format: 'json' | 'yaml'): string {
  const shown = withTimes(data);
  return format === 'json'
    ? JSON.stringify(shown, null, 2)
    : lazyYaml().stringify(shown, { aliasDuplicateObjects: false }).trimEnd();
}

/** Fields with milliseconds since the epoch. Others that end in `Ms` are durations. */
const instants: ReadonlySet<string> = new Set([
  'asOfMs',
  'certificateNotAfterMs',
  'expiresAtMs',
  'firstSeenMs',
  'joinedAtMs',
  'lastAllowedMs',
  'lastSeenMs',
  'nextCertificateExpiryMs',
  'notAfterMs',
  'nowMs',
  'oldestMs',
  'sinceMs',
  'startedAtMs',
  'validFromMs',
]);
/** What a date can hold (ECMA-262, 21.4.1.1). */
const mostMs = 8_640_000_000_000_000;

/** `lastSeenMs: 1735689600000` is followed by `lastSeen: "2025-01-01T00:00:00.000Z"`. */
function withTimes(data: unknown): unknown {
  if (Array.isArray(data)) return data.map(withTimes);
  if (typeof data !== 'object' || data === null) return data;
  const shown: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(data)) {
    const isInstant = instants.has(name) && typeof value === 'number' && Math.abs(value) <= mostMs;
    shown[name] = isInstant ? value : withTimes(value);
    const text = name.slice(0, -2);
    if (isInstant && !(text in data)) shown[text] = new Date(value).toISOString();
  }
  return shown;
}

/** Renders documents as YAML that can be applied again. */
export function renderDocuments(documents: readonly unknown[]): string {
  return documents.map((document) => renderData(document, 'yaml')).join('\n---\n');
}
