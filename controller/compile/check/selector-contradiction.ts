import type { NetworkPolicySelector } from '../../resources/kinds/network-policy.js';

const labelValue = /^(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/;

/** Why no labels can meet all requirements; null: some can. */
export function contradiction({ matchLabels = {}, matchExpressions = [] }: NetworkPolicySelector): string | null {
  const labels = Object.entries(matchLabels).map(([key, value]) => ({ key, operator: 'In', values: [value] }));
  const all = [...labels, ...matchExpressions.map((requirement) => ({ values: [], ...requirement }))];
  for (const key of new Set(all.map((requirement) => requirement.key))) {
    const of = (operator: string) => all.filter((each) => each.key === key && each.operator === operator);
    const [wanted, refused] = [of('In').map(({ values }) => values), of('NotIn').flatMap(({ values }) => values)];
    const isWanted = wanted.length > 0 || of('Exists').length > 0;
    if (isWanted && of('DoesNotExist').length > 0) return `the label ${key} cannot be there and not be there`;
    const [first = [], ...others] = wanted;
    const common = first.filter(
      (value) => others.every((values) => values.includes(value)) && !refused.includes(value),
    );
    if (wanted.length > 0 && common.length === 0) return `no value of the label ${key} meets all its conditions`;
    if (wanted.length > 0 && common.every((value) => !labelValue.test(value))) {
      return `the label ${key} cannot have the value ${JSON.stringify(common[0])}`;
    }
  }
  return null;
}
