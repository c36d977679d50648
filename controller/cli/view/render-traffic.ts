import type { ServiceEndpoint } from '../../analysis/traffic/service-endpoints.js';
import type {
  RoutedEndpoint,
  RoutedFault,
  RoutedMirror,
  RoutedTarget,
  ServiceRoutes,
} from '../../analysis/traffic/service-routes.js';
import { namesText } from './amounts.js';
import { policyText } from './policy-text.js';
import { renderTable } from './table.js';

/** What `culvert routes -o json` gives for clients whose connections go the same way. */
export type ExplainedRoutes = ServiceRoutes & {
  readonly sources: readonly string[];
  readonly service: string;
  readonly dialled: string;
};

/** Renders the answer of `culvert routes` for people: the documents that count, then who gets how much. */
export function renderRoutes(routes: readonly ExplainedRoutes[]): string {
  return routes.map(renderOne).join('\n\n');
}

function renderOne({
  sources,
  service,
  dialled,
  route,
  rule,
  faults,
  mirror,
  limits,
  targets,
}: ExplainedRoutes): string {
  const lines = [
    `${namesText(sources)} -> ${service} at ${dialled}`,
    `  route  ${route ?? 'none matches: all endpoints of the service'}`,
    ...ruleLines(rule, targets),
    ...policyLines(targets),
    ...faults.map(faultLine),
    ...(mirror === null ? [] : [mirrorLine(mirror)]),
    ...limits.map(
      ({ limit, of, says, mode }) => `  limit  ${limit}: ${says} ${of}${mode === 'audit' ? ' (audit)' : ''}`,
    ),
    '',
    ...renderTable(
      [
        targets.some(({ backend }) => backend !== null) ? 'BACKEND' : 'SUBSET',
        'SHARE',
        'BALANCING',
        'ENDPOINT',
        'ADDRESS',
        'GETS',
      ],
      targets.flatMap(targetRows),
    )
      .split('\n')
      .map((line) => `  ${line}`),
    ...(targets.some(({ balancing, endpoints }) => balancing === 'least-connections' && endpoints.length > 1)
      ? ['', '  least-connections: while equally many connections are open to each; a busier endpoint gets fewer']
      : []),
    ...(targets.some(({ endpoints, farther }) => [...endpoints, ...farther].some(({ ejected }) => ejected.length > 0))
      ? [
          '',
          '  ejected, to be tried, on trial: as the agent of the client said last; a share is that of a whole endpoint',
        ]
      : []),
  ];
  return lines.join('\n');
}

/** `fault  delay of 2s for 10 % of the connections, until 2027-01-31T00:00:00.000Z`. */
function faultLine({ says, percent, expiresAt, isExpired }: RoutedFault): string {
  const until = expiresAt === null ? '' : isExpired ? `: expired at ${expiresAt}` : `, until ${expiresAt}`;
  return `  fault  ${says} for ${percent} % of the connections${until}`;
}

/** `mirror  to shop/web-v2:80 for 10 % of the connections`. */
function mirrorLine({ to, percent, problem }: RoutedMirror): string {
  return `  mirror to ${to} for ${percent} % of the connections${problem === null ? '' : `; none gets there: ${problem}`}`;
}

/** Another service has a rule of its own. */
function ruleLines(rule: string | null, targets: readonly RoutedTarget[]): string[] {
  const backends = targets.filter(({ backend }) => backend !== null);
  if (backends.length === 0) return [`  rule   ${rule ?? 'none'}`];
  const named = backends.filter((target) => target.rule !== null);
  if (named.length === 0) return ['  rule   none'];
  return named.map((target) => `  rule   of ${target.backend ?? ''}: ${target.rule ?? ''}`);
}

/** Of each subset, where they are not all the same. */
function policyLines(targets: readonly RoutedTarget[]): string[] {
  const texts = targets.map(({ policy }) => (policy === null ? '' : policyText(policy)));
  const [first = ''] = texts;
  if (texts.every((text) => text === first)) return first === '' ? [] : [`  says   ${first}`];
  return targets.flatMap(({ subset, backend }, index) => {
    const text = texts[index] ?? '';
    const of = backend ?? (subset === null ? 'all' : `subset ${subset}`);
    return text === '' ? [] : [`  says   of ${of}: ${text}`];
  });
}

function targetRows({ subset, backend, share, balancing, problem, endpoints, farther }: RoutedTarget): string[][] {
  const target = [backend ?? subset ?? '', shareText(share)];
  if (problem !== null) return [[...target, '', `refused: ${problem}`, '', '']];
  const row = (endpoint: RoutedEndpoint, gets: string): string[] => [
    ...target,
    balancing,
    endpoint.workload ?? 'outside the mesh',
    endpoint.address,
    [gets, ...endpoint.ejected.map(ejectionText)].join('; '),
  ];
  return [
    ...endpoints.map((endpoint) => row(endpoint, getsText(endpoint.probability))),
    ...farther.map((endpoint) => row(endpoint, 'when nearer ones fail')),
  ];
}

function getsText(probability: number | null): string {
  return probability === null ? 'by the address of the client' : shareText(probability);
}

/** `ejected by 2 threads for 12s (CONNECT_REFUSED)`; with a share, which it gets when it is whole again. */
function ejectionText({ state, threads, forMs, reason }: RoutedEndpoint['ejected'][number]): string {
  const left = state === 'ejected' ? ` for ${Math.ceil(forMs / 1000)}s` : '';
  return `${state} by ${threads} ${threads === 1 ? 'thread' : 'threads'}${left} (${reason})`;
}

/** `33.3 %`. */
function shareText(share: number): string {
  return `${Number((100 * share).toFixed(1))} %`;
}

/** Renders the answer of `culvert endpoints` for people. */
export function renderEndpoints(endpoints: readonly ServiceEndpoint[]): string {
  const rows = endpoints.map(({ workload, address, state, node, zone, subsets }) => [
    workload ?? 'outside the mesh',
    address,
    state,
    node ?? '',
    zone ?? '',
    subsets.join(','),
  ]);
  const table = renderTable(['ENDPOINT', 'ADDRESS', 'STATE', 'NODE', 'ZONE', 'SUBSETS'], rows);
  const ejected = endpoints.flatMap((endpoint) => endpoint.ejected.map((each) => [...ejectionRow(endpoint, each)]));
  if (ejected.length === 0) return table;
  const header = ['ENDPOINT', 'BY', 'THREADS', 'FROM', 'RULE', 'STATE', 'WHY', 'TIMES', 'FOR'];
  return `${table}\n\nEjected, as agents said last:\n${renderTable(header, ejected)}`;
}

function ejectionRow(
  { workload, address }: ServiceEndpoint,
  { node, threads, destination, rule = '', state, reason, count, forMs }: ServiceEndpoint['ejected'][number],
): string[] {
  const left = state === 'ejected' ? `${Math.ceil(forMs / 1000)}s` : '';
  return [workload ?? address, node, String(threads), destination, rule, state, reason, String(count), left];
}
