/** An alert of Prometheus: what it looks for, and what a person does then. */
export type AlertRule = {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly labels: { readonly severity: 'critical' | 'warning' };
  readonly annotations: { readonly summary: string; readonly description: string };
};

type Row = readonly [
  alert: string,
  severity: 'critical' | 'warning',
  expr: string,
  duration: string,
  summary: string,
  description: string,
];

const rows: readonly Row[] = [
  [
    'CulvertWorkloadsNotCaptured',
    'critical',
    'culvert_workloads{state="pending"} > 0',
    '5m',
    'Workloads of {{ $labels.node }} are in the mesh and not captured: their connections are refused.',
    'See culvert check, and the log of the agent on this node.',
  ],
  [
    'CulvertWorkloadsNotServed',
    'critical',
    'culvert_workloads_without_listeners > 0',
    '5m',
    'The agent of {{ $labels.node }} has no listeners for workloads: their new connections are refused.',
    'Another program may have a port of the agent there. See /readyz of the agent.',
  ],
  [
    'CulvertAgentsMissing',
    'critical',
    'sum(culvert_controller_agents{state=~"stale|joined"}) > 0',
    '10m',
    'Agents send no heartbeat.',
    'See culvert status for which ones. Their nodes go on with the rules that they have.',
  ],
  [
    'CulvertAgentsBehind',
    'warning',
    'sum(culvert_controller_agents{state="behind"}) > 0',
    '15m',
    'Agents enforce an older revision of the rules.',
    'See culvert rollout status.',
  ],
  [
    'CulvertAgentsAhead',
    'critical',
    'sum(culvert_controller_agents{state="ahead"}) > 0',
    '5m',
    'Agents have rules that this controller has not made: an older backup may have been restored.',
    'See "Backup and restore" in the document on operations.',
  ],
  [
    'CulvertRulesMayBeOld',
    'warning',
    'culvert_rules_age_seconds > 1800',
    '5m',
    'The controller has not confirmed the rules of {{ $labels.node }} for half an hour.',
    'Check NATS, the controller, and the clocks of both hosts.',
  ],
  [
    'CulvertUnsignedRules',
    'critical',
    'increase(culvert_rules_alarms_total{kind="unusable"}[15m]) > 0 or increase(culvert_registry_alarms_total[15m]) > 0',
    '0m',
    'The agent of {{ $labels.node }} refuses rules or registry entries that no pinned key signed, or that are damaged.',
    'Find out who writes into NATS. The last good rules stay in force.',
  ],
  [
    'CulvertNodeCertificateExpires',
    'critical',
    'culvert_node_certificate_expiry_timestamp_seconds - time() < 86400',
    '10m',
    'The credential of {{ $labels.node }} expires within a day and was not renewed.',
    'Check that the agent reaches the controller. After it expired, the node has to join again.',
  ],
  [
    'CulvertIssuingCaExpires',
    'warning',
    'culvert_controller_issuing_ca_expiry_timestamp_seconds - time() < 1209600',
    '1h',
    'The CA that signs certificates expires within two weeks.',
    'See "culvert ca status".',
  ],
  [
    'CulvertConnectionsLost',
    'warning',
    'increase(culvert_connections_lost_total[15m]) > 0',
    '0m',
    'A data-plane worker of {{ $labels.node }} died, and its connections with it.',
    'See the log of the agent there.',
  ],
  [
    'CulvertControllerWithoutNats',
    'critical',
    'culvert_controller_nats_connected == 0',
    '5m',
    'The controller is not connected to NATS: no change reaches the agents.',
    'See the log of the controller.',
  ],
  [
    'CulvertAuditLogNotWritable',
    'critical',
    'culvert_controller_audit_log_writable == 0',
    '1m',
    'The audit log cannot be written, so no privileged request is done.',
    "See the space on the controller's volume.",
  ],
];

/** Alerts about metrics of agents and controller, for Prometheus. */
export const alertRules: readonly AlertRule[] = rows.map(([alert, severity, expr, duration, summary, description]) => ({
  alert,
  expr,
  for: duration,
  labels: { severity },
  annotations: { summary, description },
}));
