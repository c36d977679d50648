import type { Command } from 'commander';
import { formatResourceId } from '../../resources/kinds/resource-key.js';
import type { DocumentDiff, HistoryDetail, HistoryItem } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { readCount } from '../input/quantity-arguments.js';
import { formatAge } from '../view/format-time.js';
import { lineDiff } from '../view/line-diff.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { printable, renderTable } from '../view/table.js';

type Options = { limit: number; output: OutputFormat };

/** `culvert history`: lists who changed what and when, or shows the changes of one revision. */
export function addHistoryCommand(program: Command, cli: Cli): void {
  const command = program
    .command('history')
    .description('List the revisions of the rules, newest first, or show the changes of one.')
    .argument('[revision]', 'a revision', (text) => readCount(text, 'revision'))
    .option('--limit <count>', 'how many revisions to list', (text) => readCount(text, 'limit'), 20)
    .addHelpText('after', '\nChanges of Workloads and Services have no revision: culvert audit-log lists them.')
    .addHelpText('after', '\nExample: culvert history 12');
  addOutputOption(command).action(async (revision: number | undefined, { limit, output }: Options) => {
    const client = await cli.client();
    const nowMs = cli.io.nowMs();
    if (revision === undefined) {
      const query = { limit: String(limit) };
      const items = await client.call<HistoryItem[]>({ method: 'GET', path: ['history'], query });
      if (output !== 'table') return cli.io.print(renderData(items, output));
      return items.length === 0
        ? cli.io.printError('nothing has been applied yet')
        : cli.io.print(renderHistory(items, nowMs));
    }
    const detail = await client.call<HistoryDetail>({ method: 'GET', path: ['history', String(revision)] });
    cli.io.print(output === 'table' ? renderRevision(detail, nowMs) : renderData(detail, output));
  });
}

export function renderHistory(items: readonly HistoryItem[], nowMs: number): string {
  const rows = items.map((item) => [
    String(item.revision),
    formatAge(Date.parse(item.at), nowMs),
    item.by,
    summary(item),
    item.message ?? '',
  ]);
  return renderTable(['REVISION', 'APPLIED', 'BY', 'CHANGES', 'MESSAGE'], rows);
}

const maxNamed = 2;

/** `+SegmentationRule/db-only, ~Segment/batch and 3 more`. */
function summary({ areChangesKnown, changeCount, changes, rollbackOf }: HistoryItem): string {
  const back = rollbackOf === null ? '' : `back to ${rollbackOf}: `;
  if (areChangesKnown && changeCount === 0) return `${back}no rule`;
  if (!areChangesKnown) return `${back}no longer known`;
  const named = changes.slice(0, maxNamed).map((change) => `${marks[change.change]}${formatResourceId(change)}`);
  const rest = changeCount - named.length;
  return `${back}${named.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

const marks = { created: '+', configured: '~', deleted: '-', unchanged: '=' } as const;

/** Who applied the revision and when, and a line diff of each document. */
export function renderRevision(detail: HistoryDetail, nowMs: number): string {
  const { revision, at, by, message, rollbackOf, areChangesKnown, documents } = detail;
  const head = [
    `revision ${revision}, applied by ${by} ${formatAge(Date.parse(at), nowMs)} (${at})`,
    ...(rollbackOf === null ? [] : [`rolls back to revision ${rollbackOf}`]),
    ...(message === null ? [] : [message]),
    ...(areChangesKnown ? [] : ['its changes are no longer known']),
  ];
  return [head.map(printable).join('\n'), ...documents.map(renderDocument)].join('\n\n');
}

function renderDocument({ before, after, ...change }: DocumentDiff): string {
  const [old, fresh] = [before, after].map((document) => (document === null ? '' : renderData(document, 'yaml')));
  const lines = lineDiff(old ?? '', fresh ?? '').map((line) => printable(`  ${line}`).trimEnd());
  return [`${formatResourceId(change)} ${change.change}`, ...lines].join('\n');
}
