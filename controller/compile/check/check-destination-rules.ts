import type { DestinationRule } from '../../resources/kinds/destination-rule.js';
import { formatResourceId, resourceId } from '../../resources/kinds/resource-key.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { ProblemList } from '../../resources/parse/problem-list.js';
import { hostOf } from '../compile-destination-rules.js';

/** Refuses a second DestinationRule of a namespace for one host: which of the two counts would depend on their age. */
export function checkDestinationRules(resources: readonly Resource[], problems: ProblemList): void {
  const firsts = new Map<string, DestinationRule>();
  const rules = resources.filter((resource) => resource.kind === 'DestinationRule');
  for (const rule of rules.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
    const { namespace } = rule.metadata;
    const host = hostOf(rule.spec.host, namespace);
    const key = `${namespace} ${host}`;
    const first = firsts.get(key);
    if (first === undefined) {
      firsts.set(key, rule);
      continue;
    }
    const message = `${formatResourceId(resourceId(first))} is for ${host} already, in the same namespace`;
    problems.error({ resource: rule, path: ['spec', 'host'] }, message, 'Istio merges them by age; write one document');
  }
}
