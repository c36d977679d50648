type Panel = {
  readonly title: string;
  readonly unit: string;
  readonly queries: readonly (readonly [string, string])[];
};

/** Each query with what its lines are called. */
const panels: readonly Panel[] = [
  {
    title: 'Workloads',
    unit: 'short',
    queries: [['sum by (state) (culvert_workloads)', '{{state}}']],
  },
  {
    title: 'Agents',
    unit: 'short',
    queries: [['sum by (state) (culvert_controller_agents)', '{{state}}']],
  },
  {
    title: 'New connections',
    unit: 'cps',
    queries: [['sum by (node) (rate(culvert_connections_opened_total[5m]))', '{{node}}']],
  },
  {
    title: 'Open connections',
    unit: 'short',
    queries: [['sum by (node) (culvert_open_connections)', '{{node}}']],
  },
  {
    title: 'Refused connections, by reason',
    unit: 'cps',
    queries: [['sum by (reason) (rate(culvert_connections_denied_total[5m]))', '{{reason}}']],
  },
  {
    title: 'What a rule in audit mode would have denied',
    unit: 'cps',
    queries: [['sum by (rule) (rate(culvert_connections_audited_total[5m]))', '{{rule}}']],
  },
  {
    title: 'Bytes',
    unit: 'Bps',
    queries: [
      ['sum(rate(culvert_connection_sent_bytes_total[5m]))', 'sent'],
      ['sum(rate(culvert_connection_received_bytes_total[5m]))', 'received'],
    ],
  },
  {
    title: 'Time to connect, 99th percentile',
    unit: 's',
    queries: [
      ['histogram_quantile(0.99, sum by (le, path) (rate(culvert_connect_duration_seconds_bucket[5m])))', '{{path}}'],
    ],
  },
  {
    title: 'CPU of agents',
    unit: 'short',
    queries: [['sum by (node) (rate(culvert_cpu_seconds_total[5m]))', '{{node}}']],
  },
  {
    title: 'Memory of agents',
    unit: 'bytes',
    queries: [['sum by (node) (culvert_resident_memory_bytes)', '{{node}}']],
  },
  {
    title: 'Age of the rules',
    unit: 's',
    queries: [['max by (node) (culvert_rules_age_seconds)', '{{node}}']],
  },
  {
    title: 'Time until the credentials of nodes expire',
    unit: 's',
    queries: [['min by (node) (culvert_node_certificate_expiry_timestamp_seconds) - time()', '{{node}}']],
  },
];

const size = { w: 12, h: 8 } as const;

/** A dashboard of Grafana about all agents and the controller. Its user chooses the Prometheus. */
export const dashboard: object = {
  uid: 'culvert',
  title: 'Culvert',
  tags: ['culvert'],
  schemaVersion: 39,
  refresh: '1m',
  time: { from: 'now-6h', to: 'now' },
  templating: { list: [{ name: 'source', label: 'Prometheus', type: 'datasource', query: 'prometheus' }] },
  panels: panels.map(({ title, unit, queries }, index) => ({
    id: index + 1,
    type: 'timeseries',
    title,
    datasource: { type: 'prometheus', uid: '${source}' },
    gridPos: { ...size, x: (index % 2) * size.w, y: Math.floor(index / 2) * size.h },
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    targets: queries.map(([expr, legendFormat], at) => ({ refId: 'AB'.charAt(at), expr, legendFormat })),
  })),
};

/** Names of metrics in the queries. */
export const dashboardQueries: readonly string[] = panels.flatMap(({ queries }) => queries.map(([query]) => query));
