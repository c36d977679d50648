import { agentSettingsTable } from '../../agent/config/agent-settings.js';
import { capturePorts, hostPorts } from '../../agent/ports.js';
import { controllerSettings } from '../../controller/config/settings.js';
import { renderSettingsTable } from '../../shared/config/settings-table.js';
import { reasons, type ReasonInfo } from '../../shared/reasons.js';
import { agentMetrics, controllerMetrics, type MetricDescription } from './metric-tables.js';

/** The parts of the README that are made from the code, by the name in their `<!-- generated: NAME -->` mark. */
export const readmeBlocks: Readonly<Record<string, () => string>> = {
  ports: renderPorts,
  reasons: renderReasons,
  'agent metrics': () => renderMetrics(agentMetrics()),
  'controller metrics': () => renderMetrics(controllerMetrics()),
  'agent settings': () => renderSettingsTable(agentSettingsTable),
  'controller settings': () => renderSettingsTable(controllerSettings),
};

const blockPattern = /<!-- generated: ([a-z ]+) -->\n[\s\S]*?<!-- end -->/g;

/** The same text with every generated part made anew. Throws when a mark names no block. */
export function fillReadme(text: string): string {
  return text.replace(blockPattern, (_, name: string) => {
    const render = readmeBlocks[name];
    if (render === undefined)
      throw new Error(`the README has a mark for "${name}", which test/docs/readme-blocks.ts does not know`);
    return `<!-- generated: ${name} -->\n${render()}\n<!-- end -->`;
  });
}

function renderPorts(): string {
  const rows: readonly (readonly [number, string, string])[] = [
    [capturePorts.outbound, 'workload', 'outbound TCP arrives here by REDIRECT'],
    [capturePorts.inboundPlaintext, 'workload', 'inbound TCP that came without a tunnel arrives here by REDIRECT'],
    [capturePorts.inboundTunnel, 'workload', 'HBONE tunnels from other agents; must be reachable between hosts'],
    [hostPorts.admin, 'host, loopback', 'admin: `/config`, `/dump`, `/connections`, `/log`'],
    [hostPorts.metrics, 'host', 'Prometheus: `/metrics`'],
    [hostPorts.health, 'host', '`/healthz`, `/readyz`'],
  ];
  return table(
    ['port', 'where', 'what for'],
    rows.map(([port, where, what]) => [String(port), where, what]),
  );
}

function renderMetrics(metrics: readonly MetricDescription[]): string {
  return table(
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
  return table(['reason', 'whose side', 'what happened', 'what to try next'], rows);
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n');
}
