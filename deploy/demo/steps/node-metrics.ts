import { histogramQuantile, type MetricSample } from '../../../test/lab/metric-samples.js';
import { waitUntil } from '../../../test/lab/wait-until.js';
import { require, type Step } from '../step.js';

/** One agent's row of the table, from its /metrics. Milliseconds are null when nothing was measured. */
export type NodeMetrics = {
  readonly node: string;
  readonly connections: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly denials: Readonly<Record<string, number>>;
  readonly connectP50Ms: number | null;
  readonly connectP99Ms: number | null;
  readonly certificateExpiresInSeconds: number;
};

/** Step 8: the metrics of both nodes, read as Prometheus would read them. */
export const nodeMetrics: Step = {
  id: 'node-metrics',
  title: 'What the agents measured',
  run: async (stage, narrator) => {
    const say = (line: string): void => narrator.say(line);
    // Threads hand their counts over once a second.
    const rows = await Promise.all(
      stage.mesh.agents.map((agent) =>
        waitUntil(`the metrics of ${agent.name} tell of all that happened`, async () => {
          const row = summarise(agent.name, await agent.metrics());
          requireAll(row);
          return row;
        }),
      ),
    );
    for (const line of renderTable(rows)) say(line);
    return { nodes: rows };
  },
};

function requireAll(row: NodeMetrics): void {
  require(row.connections > 0 && row.bytesReceived > 0, `${row.node} counted connections and bytes`);
  require(row.connectP50Ms !== null, `${row.node} measured how long connecting takes`);
  require(row.certificateExpiresInSeconds > 0, `${row.node} holds valid certificates`);
  require((row.denials['POLICY_DENY'] ?? 0) > 0, `${row.node} counted the refusal of the intruder`);
  require((row.denials['POLICY_TERMINATED'] ?? 0) > 0, `${row.node} counted the session that was cut`);
}

function summarise(node: string, samples: readonly MetricSample[]): NodeMetrics {
  const sum = (name: string): number =>
    samples.filter((sample) => sample.name === name).reduce((total, sample) => total + sample.value, 0);
  const denials: Record<string, number> = {};
  for (const { name, labels, value } of samples) {
    const reason = labels['reason'];
    if (name !== 'culvert_connections_denied_total' || reason === undefined) continue;
    denials[reason] = (denials[reason] ?? 0) + value;
  }
  const expiries = samples.filter((sample) => sample.name === 'culvert_certificate_expiry_timestamp_seconds');
  return {
    node,
    connections: sum('culvert_connections_opened_total'),
    bytesSent: sum('culvert_connection_sent_bytes_total'),
    bytesReceived: sum('culvert_connection_received_bytes_total'),
    denials,
    connectP50Ms: milliseconds(histogramQuantile(samples, 'culvert_connect_duration_seconds', 0.5)),
    connectP99Ms: milliseconds(histogramQuantile(samples, 'culvert_connect_duration_seconds', 0.99)),
    certificateExpiresInSeconds: Math.round(Math.min(...expiries.map((sample) => sample.value)) - Date.now() / 1000),
  };
}

function milliseconds(seconds: number | null): number | null {
  return seconds === null ? null : Math.round(seconds * 1e5) / 100;
}

function renderTable(rows: readonly NodeMetrics[]): string[] {
  const header = ['node', 'connections', 'sent B', 'received B', 'connect p50/p99', 'certificates for', 'denials'];
  const cells = rows.map((row) => [
    row.node,
    String(row.connections),
    String(row.bytesSent),
    String(row.bytesReceived),
    `${row.connectP50Ms ?? '-'} / ${row.connectP99Ms ?? '-'} ms`,
    `${(row.certificateExpiresInSeconds / 3600).toFixed(1)} h`,
    Object.entries(row.denials)
      .map(([reason, count]) => `${reason} ${count}`)
      .join(', '),
  ]);
  const widths = header.map((title, column) => Math.max(title.length, ...cells.map((row) => row[column]?.length ?? 0)));
  return [header, ...cells].map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
