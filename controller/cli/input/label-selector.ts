import { usageError } from '../exit-codes.js';

/** Labels that a resource must have, as `kubectl -l` has them. */
export type LabelSelector = { readonly fits: (labels: Readonly<Record<string, string>>) => boolean };

const term = /^(!)?\s*([A-Za-z0-9][A-Za-z0-9._/-]*)\s*(?:(==|=|!=)\s*([A-Za-z0-9._-]*))?$/;

/** Reads `app=api,tier!=db,owner,!old`: all terms must hold. Throws CliError (usage). */
export function parseLabelSelector(text: string): LabelSelector {
  const tests = text.split(',').map((part) => {
    const [, not, name = '', operator, value] = term.exec(part.trim()) ?? [];
    if (name === '' || (not !== undefined && operator !== undefined)) {
      throw usageError(`"${text}" does not select by labels`, 'write it as -l app=api,tier!=db,owner,!old');
    }
    return (labels: Readonly<Record<string, string>>): boolean => {
      const has = Object.hasOwn(labels, name);
      if (operator === undefined) return has === (not === undefined);
      return operator === '!=' ? labels[name] !== value : has && labels[name] === value;
    };
  });
  return { fits: (labels) => tests.every((test) => test(labels)) };
}
