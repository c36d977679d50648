import type {
  ConnectionLimits,
  OutlierPolicy,
  RetryBudgetPolicy,
  TrafficPolicy,
} from '../../../shared/policy/traffic-documents.js';
import type { WarmupPolicy } from '../../../shared/policy/warmup.js';

/** What a DestinationRule says of connections, apart from how they are shared, in the words of the document; empty: nothing. */
export function policyText({ warmup, connections = {}, outliers, retries }: TrafficPolicy): string {
  const parts = [...limitTexts(connections)];
  if (warmup !== undefined) parts.push(warmupText(warmup));
  if (outliers !== undefined) parts.push(outlierText(outliers));
  if (retries !== undefined) parts.push(budgetText(retries));
  return parts.join(', ');
}

function* limitTexts(limits: ConnectionLimits): Generator<string> {
  const { max, maxPending, connectTimeoutMs, idleTimeoutMs, maxDurationMs, keepalive } = limits;
  if (max !== undefined) yield `maxConnections ${max}`;
  if (maxPending !== undefined) yield `maxPendingConnections ${maxPending}`;
  if (connectTimeoutMs !== undefined) yield `connectTimeout ${spanText(connectTimeoutMs)}`;
  if (idleTimeoutMs !== undefined) yield `idleTimeout ${spanText(idleTimeoutMs)}`;
  if (maxDurationMs !== undefined) yield `maxConnectionDuration ${spanText(maxDurationMs)}`;
  if (keepalive === undefined) return;
  const { idleSeconds, everySeconds, probes } = keepalive;
  yield `tcpKeepalive after ${idleSeconds}s, ${probes} times every ${everySeconds}s`;
}

function warmupText({ durationMs, minPercent }: WarmupPolicy): string {
  return `warmup from ${minPercent} % within ${spanText(durationMs)}`;
}

function outlierText({ failures, baseEjectionMs }: OutlierPolicy): string {
  return `outlierDetection after ${failures} in a row for ${spanText(baseEjectionMs)}`;
}

function budgetText({ percent, minConcurrency }: RetryBudgetPolicy): string {
  return `retryBudget ${percent} % or ${minConcurrency}`;
}

function spanText(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}
