import { bytesText, conditionText, figureText, microsecondsText, valueText } from './figure-text.js';
import { type CaseSummary, medianOf, type PathSummary } from './summary.js';

/** The report for a terminal: each case with every path, medians with minimum and maximum. */
export function detailLines(summaries: readonly CaseSummary[]): string[] {
  return summaries.flatMap((summary) => [
    `${summary.id}: ${summary.title} (${summary.unit}, ${summary.better} is better)`,
    ...aligned(summary.paths.filter(({ leftOut }) => leftOut === null).map((path) => detailRow(path, summary.unit))),
    '',
  ]);
}

const ratioHeader = ['case', 'Culvert', 'best comparator', 'ratio', 'goal', 'met'] as const;

/** The table of ratios to the best comparator, for a terminal. */
export function ratioLines(summaries: readonly CaseSummary[]): string[] {
  return aligned([[...ratioHeader], ...summaries.map(ratioRow)]);
}

/** The same in Markdown. */
export function ratioMarkdown(summaries: readonly CaseSummary[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(ratioHeader), line(ratioHeader.map(() => '---')), ...summaries.map(ratioRow).map(line)].join('\n');
}

/** Columns as wide as their widest cell. */
export function aligned(rows: readonly (readonly string[])[]): string[] {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, at) => cell.padEnd((widths[at] ?? 0) + 2))
      .join('')
      .trimEnd(),
  );
}

function ratioRow(summary: CaseSummary): string[] {
  const { unit, ratio, met, conditions, best, paths } = summary;
  const culvert = paths.find(({ kind }) => kind === 'culvert');
  const bestPath = paths.find(({ path }) => path === best);
  return [
    summary.title,
    valueOf(culvert, unit),
    bestPath === undefined ? '' : `${valueOf(bestPath, unit)} (${bestPath.title.split(',')[0]})`,
    ratio === null ? '' : ratio.toFixed(2),
    conditions.map(({ condition }) => conditionText(condition, unit)).join(', '),
    met === null ? '' : met ? 'yes' : `no: ${missText(summary)}`,
  ];
}

/** The figures of a missed goal. */
function missText({ conditions, unit, paths }: CaseSummary): string {
  if (paths.some(({ kind, failures }) => kind === 'culvert' && failures.length > 0)) return 'it failed';
  return conditions
    .filter(({ met }) => met === false)
    .map(({ condition, figure, reference }) => {
      if (figure === null || reference === null) return 'not measured';
      if (condition.of === 'itself') return figureText(condition.figure, figure, unit);
      return `${(figure / reference).toFixed(2)} × ${condition.of}`;
    })
    .join(', ');
}

function valueOf(path: PathSummary | undefined, unit: string): string {
  const value = medianOf(path, 'value');
  return value === null ? 'failed' : figureText('value', value, unit);
}

function detailRow(path: PathSummary, unit: string): string[] {
  const { value, p50Us, p99Us, p999Us, clientCores } = path.figures;
  if (value === undefined) return ['', path.title, `failed: ${path.failures[0] ?? ''}`.split('\n')[0] ?? ''];
  const median = (name: string): number | null => medianOf(path, name);
  const latency = [p50Us, p99Us, p999Us].flatMap((spread) => (spread === undefined ? [] : [spread.median]));
  const cpu = [
    [median('cpuSecondsPerGb'), 's CPU/GB'],
    [median('cpuSecondsPer10k'), 's CPU/10k'],
  ] as const;
  const memory = [
    [median('peakRssSourceBytes'), median('peakRssDestinationBytes'), 'peak'],
    [median('sourceBytesEach'), median('destinationBytesEach'), 'each'],
  ] as const;
  return [
    '',
    path.title,
    valueText(value.median, unit),
    `(${valueText(value.min, unit)}–${valueText(value.max, unit)})`,
    latency.length === 0 ? '' : `p50/p99/p99.9 ${latency.map(microsecondsText).join(' / ')}`,
    ...(path.kind === 'direct'
      ? ['', '']
      : [
          cpu.flatMap(([figure, name]) => (figure === null ? [] : [`${figure.toFixed(2)} ${name}`])).join(', '),
          memory
            .flatMap(([source, destination, name]) =>
              source === null || destination === null
                ? []
                : [`${bytesText(source)} + ${bytesText(destination)} ${name}`],
            )
            .join(', '),
        ]),
    clientCores === undefined ? '' : `client ${clientCores.median.toFixed(2)} cores`,
    path.failures.length === 0 ? '' : `${path.failures.length} failed: ${path.failures[0]?.split('\n')[0] ?? ''}`,
  ];
}
