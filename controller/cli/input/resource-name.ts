import { didYouMean } from '../../../shared/nearest-name.js';
import { findKind, kindInfo, kindNames, type ResourceKind } from '../../resources/kinds/resource.js';
import { CliError, usageError } from '../exit-codes.js';

/** Throws CliError (notFound), which suggests the nearest kind. */
export function kindOf(text: string): ResourceKind {
  const kind = findKind(text);
  if (kind !== undefined) return kind;
  if (/^policytests?$/i.test(text)) {
    const message = 'PolicyTests are never stored';
    throw new CliError({ exit: 'notFound', code: 'UNKNOWN_KIND', message, hint: 'check files with: culvert test -f' });
  }
  const words = kindNames.flatMap((name) => [name, ...kindInfo(name).aliases]);
  const hint = didYouMean(text, words, `the kinds are ${kindNames.join(', ')}`);
  throw new CliError({ exit: 'notFound', code: 'UNKNOWN_KIND', message: `there is no kind "${text}"`, hint });
}

/** Throws CliError (usage) when a namespace is given for a kind of the whole mesh. */
export function namespaceFor(kind: ResourceKind, namespace: string | undefined): string | undefined {
  if (namespace === undefined || kindInfo(kind).isNamespaced) return namespace;
  throw usageError(`${kind} belongs to the whole mesh and has no namespace`, 'omit -n');
}

/**
 * A name as a command line has it: `NAME`, or `NAMESPACE/NAME` as commands print it. Throws CliError (usage) when `-n` names
 * another namespace, or the kind has none.
 */
export function namedIn(
  kind: ResourceKind,
  text: string,
  option: string | undefined,
): { readonly namespace: string | undefined; readonly name: string } {
  const slash = text.indexOf('/');
  if (slash === -1) return { namespace: namespaceFor(kind, option), name: text };
  const namespace = text.slice(0, slash);
  const name = text.slice(slash + 1);
  if (namespace === '' || name === '' || name.includes('/')) {
    throw usageError(`"${text}" is no name`, 'write NAME, or NAMESPACE/NAME');
  }
  if (option !== undefined && option !== namespace) {
    throw usageError(`"${text}" and -n ${option} name two namespaces`, 'omit one of them');
  }
  return { namespace: namespaceFor(kind, namespace), name };
}
