import { CulvertError } from '../../shared/errors.js';
import { didYouMean } from '../../shared/nearest-name.js';
import { foreignDefinition, foreignKinds, groupOf, type ForeignKind } from '../resources/kinds/policies-of-others.js';
import type { RuleKind } from './rule-object.js';

/** The kinds of others that a setting names. Errors: `CONFIG_INVALID`. */
export function foreignRuleKinds(names: readonly string[]): readonly RuleKind[] {
  return names.map((name) => {
    const found = foreignKinds.find(({ kind }) => kind === name);
    if (found !== undefined) return ruleKindOf(found);
    const known = foreignKinds.map(({ kind }) => kind);
    throw new CulvertError({
      code: 'CONFIG_INVALID',
      message: `--kubernetes-policies: there is no kind "${name}" to take`,
      hint: didYouMean(name, known, `use some of ${known.join(', ')}`),
    });
  });
}

function ruleKindOf(foreign: ForeignKind): RuleKind {
  const { kind, apiVersion, earlierApiVersions = [], plural } = foreign;
  const start = groupOf(foreign) === '' ? '/api' : '/apis';
  const pathOf = (version: string): string => `${start}/${version}/${plural}`;
  return {
    kind,
    path: pathOf(apiVersion),
    earlierPaths: earlierApiVersions.map(pathOf),
    apiVersion,
    definition: foreignDefinition(foreign),
    isOurs: false,
  };
}
