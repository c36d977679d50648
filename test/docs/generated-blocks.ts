import { readdirSync } from 'node:fs';
import { agentSettingsTable } from '../../agent/config/agent-settings.js';
import {
  capturePorts,
  hostPorts,
  lateAcceptPorts,
  ownTrafficMark,
  synMarks,
  synQueueNumber,
  transparentReplyMark,
  transparentReplyTable,
} from '../../agent/ports.js';
import { controllerSettings } from '../../controller/config/settings.js';
import { renderSettingsTable } from '../../shared/config/settings-table.js';
import { productionPackages, readDependencies } from '../house/dependencies.js';
import { declaredPrograms } from '../lab/declared-programs.js';
import { reasons, type ReasonInfo } from '../../shared/reasons.js';
import { renderFigures } from '../kubernetes/figures/figures-file.js';
import { renderChartValues } from './chart/chart-values.js';
import { renderAgentCommands, renderControllerCommands, renderCulvertCommands, renderExitCodes } from './commands.js';
import { markdownTable } from './markdown-table.js';
import { agentMetrics, controllerMetrics, type MetricDescription } from './metric-tables.js';
import { renderReference } from './reference.js';

/** The parts of the documents that are made from the code, by the name in their `<!-- generated: NAME -->` mark. */
export const generatedBlocks: Readonly<Record<string, () => string | Promise<string>>> = {
  ports: renderPorts,
  marks: renderMarks,
  reasons: renderReasons,
  'agent metrics': () => renderMetrics(agentMetrics()),
  'controller metrics': () => renderMetrics(controllerMetrics()),
  'agent settings': () => renderSettingsTable(agentSettingsTable),
  'controller settings': () => renderSettingsTable(controllerSettings),
  reference: renderReference,
  'culvert commands': renderCulvertCommands,
  'agent commands': renderAgentCommands,
  'controller commands': renderControllerCommands,
  'exit codes': renderExitCodes,
  programs: renderPrograms,
  'chart values': renderChartValues,
  'kubernetes figures': renderFigures,
  packages: () => markdownTable(['package', 'version', 'licence'], productionPackages(readDependencies('.'))),
};

/** Every document that may have generated parts, from the root of the repository. */
export function documentFiles(): string[] {
  return ['README.md', ...readdirSync('deploy/docs').map((name) => `deploy/docs/${name}`)].filter((name) =>
    name.endsWith('.md'),
  );
}

const blockPattern = /<!-- generated: ([a-z ]+) -->\n[^]*?<!-- end -->/g;

/** The names of the marks in a text. */
export function blockNames(text: string): string[] {
  return [...text.matchAll(blockPattern)].map(([, name = '']) => name);
}

/** The same text with every generated part made new. Throws when a mark names no block. */
export async function fillBlocks(text: string): Promise<string> {
  const made = new Map<string, string>();
  for (const name of blockNames(text)) {
    const render = generatedBlocks[name];
    if (render === undefined) throw new Error(`test/docs/generated-blocks.ts has no block "${name}"`);
    made.set(name, await render());
  }
  return text.replace(
    blockPattern,
    (_, name: string) => `<!-- generated: ${name} -->\n${made.get(name) ?? ''}\n<!-- end -->`,
  );
}

function renderPorts(): string {
  const rows: readonly (readonly [number, string, string])[] = [
    [capturePorts.outbound, 'workload', 'outbound TCP arrives here by REDIRECT'],
    [capturePorts.inboundPlaintext, 'workload', 'inbound TCP that came without a tunnel arrives here by REDIRECT'],
    [capturePorts.inboundTunnel, 'workload', 'HBONE tunnels from other agents; must be reachable between hosts'],
    [
      lateAcceptPorts.accepted,
      'workload, loopback',
      'connections to ports with `earlyAccept: false`, only where there are any',
    ],
    [
      hostPorts.probes,
      'host, loopback',
      'what the programs of `hostProbes` open to workloads, only where there are any',
    ],
    [hostPorts.metrics, 'host, loopback unless `metricsAddress` says otherwise', 'Prometheus: `/metrics`'],
    [hostPorts.health, 'host, loopback unless `healthAddress` says otherwise', '`/healthz`, `/readyz`'],
  ];
  return markdownTable(
    ['port', 'where', 'what for'],
    rows.map(([port, where, what]) => [String(port), where, what]),
  );
}

function renderMarks(): string {
  const hex = (mark: number): string => `mark 0x${mark.toString(16)}`;
  return markdownTable(
    ['what', 'what for'],
    [
      [hex(ownTrafficMark), "the agent's own traffic, which is not captured"],
      [hex(transparentReplyMark), "replies to connections that the agent makes with the client's address"],
      [`routing table ${transparentReplyTable}`, 'leads these replies back to the agent'],
      [
        `queue ${synQueueNumber} (NFQUEUE)`,
        'SYNs to ports with `earlyAccept: false` wait here, only where there are any',
      ],
      [hex(synMarks.accepted), 'such a SYN whose far side is connected'],
      [hex(synMarks.refused), 'such a SYN that is refused'],
    ],
  );
}

/** What a host and the controller's machine need: a row for each use of a package. */
function renderPrograms(): string {
  const rows = new Map<string, { readonly cells: readonly [string, string, string]; readonly commands: string[] }>();
  for (const { command, packages, uses } of declaredPrograms) {
    for (const use of ['agent', 'controller', 'build'] as const) {
      const why = uses[use];
      if (why === undefined) continue;
      const cells = [use, packages.map((name) => `\`${name}\``).join(', '), why] as const;
      const row = rows.get(cells.join('|')) ?? { cells, commands: [] };
      rows.set(cells.join('|'), { cells, commands: [...row.commands, `\`${command}\``] });
    }
  }
  return markdownTable(
    ['of', 'programs', 'Debian package', 'what for'],
    [...rows.values()].map(({ cells: [use, packages, why], commands }) => [use, commands.join(', '), packages, why]),
  );
}

function renderMetrics(metrics: readonly MetricDescription[]): string {
  return markdownTable(
    ['metric', 'kind', 'labels', 'what it counts or shows'],
    metrics.map(({ name, type, labels, help }) => [
      `\`${name}\``,
      type,
      labels.map((label) => `\`${label}\``).join(', '),
      help,
    ]),
  );
}

function renderReasons(): string {
  const rows = Object.entries<ReasonInfo>(reasons).map(([code, info]) => [
    `\`${code}\``,
    info.side,
    info.text,
    info.next,
  ]);
  return markdownTable(['reason', 'whose side', 'what happened', 'what to try next'], rows);
}
