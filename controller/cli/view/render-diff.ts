import type { FlowChange, FlowDiff, UnknownFlow } from '../../analysis/flows/diff-flows.js';
import type { PairChange, PairDiff, PairOutcome } from '../../analysis/diff/diff-pairs.js';
import type { SetDiff } from '../../analysis/diff/diff-sets.js';
import type { TrafficChange } from '../../analysis/diff/diff-traffic.js';
import { networksNote } from '../../analysis/flows/recorded-networks.js';
import { formatAge } from './format-time.js';
import { countText, namesText, portText } from './amounts.js';
import { renderTable } from './table.js';
import { toldByText } from './told-by-text.js';

/** Renders what a proposed set changes, for people: newly denied pairs first. */
export function renderDiff({ pairs, flows, traffic }: SetDiff, nowMs: number): string {
  const ofFlows = flows === null ? [] : flowBlocks(flows, nowMs);
  return [...pairBlocks(pairs), ...trafficBlocks(traffic ?? []), ...ofFlows].join('\n\n');
}

function trafficBlocks(changes: readonly TrafficChange[]): string[] {
  const table = (title: string, some: readonly TrafficChange[]): string[] => {
    const rows = some.map(({ sources, service, worked, before, after }) => [
      namesText(sources),
      service,
      String(worked),
      `${before} -> ${after}`,
    ]);
    return rows.length === 0 ? [] : [`${title}:\n${renderTable(['FROM', 'SERVICE', 'CONNECTIONS', 'ROUTE'], rows)}`];
  };
  return [
    ...table(
      'WOULD BREAK: recorded clients whose new connections would be refused, all or some',
      changes.filter(({ isBroken }) => isBroken),
    ),
    ...table(
      'Recorded clients whose new connections would go elsewhere',
      changes.filter(({ isBroken }) => !isBroken),
    ),
  ];
}

function pairBlocks({ changed, addedWorkloads, removedWorkloads, ofAdded }: PairDiff): string[] {
  const blocks = [
    ...pairTable('Newly denied', 'denied', changed),
    ...pairTable('Newly allowed', 'allowed', changed),
    ...(addedWorkloads.length === 0 ? [] : [`New workloads: ${namesText(addedWorkloads)}`]),
    ...outcomeTable('Denied from or to new workloads', 'deny', ofAdded),
    ...outcomeTable('Allowed from or to new workloads', 'allow', ofAdded),
    ...(removedWorkloads.length === 0 ? [] : [`Removed workloads, not compared: ${namesText(removedWorkloads)}`]),
  ];
  return blocks.length === 0 ? ['Nothing changes for any pair of workloads and addresses.'] : blocks;
}

function pairTable(title: string, wanted: 'denied' | 'allowed', changed: readonly PairChange[]): string[] {
  const rows = changed.flatMap(({ sources, destinations, changes }) =>
    changes
      .filter(({ change }) => change === wanted)
      .map(({ ports, before, after }) => [
        namesText(sources),
        namesText(destinations),
        portText(ports),
        `${before} -> ${after}`,
      ]),
  );
  return rows.length === 0 ? [] : [`${title}:\n${renderTable(['FROM', 'TO', 'PORTS', 'RULE'], rows)}`];
}

function outcomeTable(title: string, wanted: 'deny' | 'allow', pairs: readonly PairOutcome[]): string[] {
  const rows = pairs.flatMap(({ sources, destinations, outcomes }) =>
    outcomes
      .filter(({ verdict }) => verdict === wanted)
      .map(({ ports, rule }) => [namesText(sources), namesText(destinations), portText(ports), rule]),
  );
  return rows.length === 0 ? [] : [`${title}:\n${renderTable(['FROM', 'TO', 'PORTS', 'RULE'], rows)}`];
}

function flowBlocks({ broken, opened, newlyAudited, unknown, unchanged }: FlowDiff, nowMs: number): string[] {
  const shown = [...broken, ...opened, ...newlyAudited, ...unknown];
  const note = networksNote(shown.flatMap(({ source, destination }) => [source, destination]));
  return [
    ...flowTable('WOULD BREAK: recorded connections that worked and would be denied', broken, 'worked', nowMs),
    ...flowTable('Recorded refusals that would be allowed', opened, 'denied', nowMs),
    ...flowTable('Would stay allowed, but newly audited as denied', newlyAudited, 'worked', nowMs),
    ...(unknown.length === 0 ? [] : [unknownTable(unknown, nowMs)]),
    ...(note === null ? [] : [note]),
    `${countText(unchanged, 'recorded flow')} would not change, ${broken.length} would break, ${unknown.length} unknown.`,
  ];
}

/** Which of the connections of a conversation the title is about. */
type Counted = 'worked' | 'denied';

function flowTable(title: string, changes: readonly FlowChange[], counted: Counted, nowMs: number): string[] {
  return changes.length === 0 ? [] : [`${title}:\n${changesTable(changes, counted, nowMs)}`];
}

function changesTable(changes: readonly FlowChange[], counted: Counted, nowMs: number): string {
  const rows = changes.map((flow) => [...seen(flow, flow[counted], nowMs), `${flow.before} -> ${flow.after}`]);
  return renderTable([...seenHeader, 'RULE'], rows);
}

/** Columns of {@link seen}; the caller adds a last one. */
const seenHeader = ['FROM', 'TO', 'PORT', 'CONNECTIONS', 'DAYS', 'LAST SEEN', 'TOLD BY'];

export function renderBrokenFlows(changes: readonly FlowChange[], nowMs: number): string {
  return changesTable(changes, 'worked', nowMs);
}

export function renderUnknownFlows(unknown: readonly UnknownFlow[], nowMs: number): string {
  return renderTable(
    [...seenHeader, 'WHY'],
    unknown.map((flow) => [...seen(flow, flow.allowed + flow.denied, nowMs), flow.why]),
  );
}

function unknownTable(unknown: readonly UnknownFlow[], nowMs: number): string {
  return `Unknown, cannot be predicted:\n${renderUnknownFlows(unknown, nowMs)}`;
}

function seen(flow: UnknownFlow | FlowChange, connections: number, nowMs: number): string[] {
  const { source, destination, port, daysSeen, lastSeenMs, toldBy } = flow;
  return [
    source,
    destination,
    port === 0 ? '' : String(port),
    String(connections),
    String(daysSeen),
    formatAge(lastSeenMs, nowMs),
    toldByText(toldBy),
  ];
}
