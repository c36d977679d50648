/** What the names in an AuthorizationPolicy are names of. */
export type NameOf = 'principal' | 'namespace' | 'trustDomain';

const label = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const subdomain = `(?=.{1,253}$)${label}(?:\\.${label})*`;
/** The trust domain of a SPIFFE ID (SPIFFE-ID, §2.1). */
const trustDomain = '[a-z0-9._-]{1,255}';

/** A part of a name between slashes: the whole of it, and what may stand at its beginning or end before or after `*`. */
type Part = { readonly whole: RegExp; readonly some: RegExp } | { readonly word: string };

const parts = {
  label: { whole: new RegExp(`^${label}$`), some: /^[a-z0-9-]{0,63}$/ },
  subdomain: { whole: new RegExp(`^${subdomain}$`), some: /^[a-z0-9.-]{0,253}$/ },
  trustDomain: { whole: new RegExp(`^${trustDomain}$`), some: /^[a-z0-9._-]{0,255}$/ },
} as const;

const shapes: Readonly<Record<NameOf, readonly Part[]>> = {
  principal: [parts.trustDomain, { word: 'ns' }, parts.label, { word: 'sa' }, parts.subdomain],
  namespace: [parts.label],
  trustDomain: [parts.trustDomain],
};

const rules: Readonly<Record<NameOf, string>> = {
  principal: 'a principal is TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT',
  namespace: 'a namespace has lower-case letters, digits and "-"',
  trustDomain: 'a trust domain has lower-case letters, digits, ".", "-" and "_"',
};

/**
 * Why no certificate can have a name that fits this pattern (exact, `*`, `prefix*` or `*suffix`), and how it may be
 * meant; null: one can.
 */
export function whyNothingFits(text: string, of: NameOf): { readonly why: string; readonly hint: string } | null {
  if (/.\*./.test(text) || /^\*.*\*$/.test(text)) {
    const hint = 'for example "cluster.local/ns/billing/*"';
    return { why: '"*" counts at the beginning or at the end, not both', hint };
  }
  const [isSuffix, isPrefix] = [text.startsWith('*'), text.endsWith('*')];
  const literal = text.replace(/^\*|\*$/, '');
  if (/\s/.test(literal)) return { why: 'no name has a space', hint: `write "${text.replaceAll(/\s/g, '')}"` };
  const written = literal.split('/');
  const shape = shapes[of];
  const isPossible = isSuffix
    ? fits(written.toReversed(), shape.toReversed(), isPrefix ? null : 'end')
    : fits(written, shape, isPrefix ? 'start' : null);
  return isPossible || (isSuffix && isPrefix) ? null : { why: rules[of], hint: meant(literal, of) };
}

/** `open`: the side at which the last of the parts goes on; null: they are the whole name. */
function fits(written: readonly string[], shape: readonly Part[], open: 'start' | 'end' | null): boolean {
  if (open === null ? written.length !== shape.length : written.length > shape.length) return false;
  return written.every((text, index) => {
    const part = shape[index];
    if (part === undefined) return false;
    const isOpen = open !== null && index === written.length - 1;
    if ('word' in part) {
      if (!isOpen) return text === part.word;
      return open === 'start' ? part.word.startsWith(text) : part.word.endsWith(text);
    }
    return (isOpen ? part.some : part.whole).test(text);
  });
}

function meant(text: string, of: NameOf): string {
  const [, namespace, account] = /^(?:ns\/)?([^/]+)\/(?:sa\/)?([^/]+)$/.exec(text) ?? [];
  if (of === 'principal' && namespace !== undefined && account !== undefined) {
    return `did you mean "cluster.local/ns/${namespace}/sa/${account}"?`;
  }
  return of === 'principal' ? 'for example "cluster.local/ns/billing/sa/api"' : `for example "${exampleOf[of]}"`;
}

const exampleOf = { namespace: 'billing', trustDomain: 'cluster.local' } as const;

/**
 * Whether a pattern is only about trust domains that no certificate of the mesh has. `cluster.local` means that of the mesh.
 * A pattern that leaves the trust domain open is about every one.
 */
export function isOfOtherMesh(text: string, of: NameOf, trustDomain: string): boolean {
  const own = [trustDomain, 'cluster.local'];
  if (of === 'namespace' || (text.startsWith('*') && of === 'principal')) return false;
  const [domain = ''] = text.split('/');
  if (domain.startsWith('*')) return !own.some((each) => each.endsWith(domain.slice(1)));
  if (domain.endsWith('*')) return !own.some((each) => each.startsWith(domain.slice(0, -1)));
  return !own.includes(domain);
}
