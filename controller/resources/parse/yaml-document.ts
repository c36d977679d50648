import { Lexer, Parser, Scalar, isAlias, isMap, isScalar, isSeq, visit } from 'yaml';
import type { Document, LineCounter, Node, YAMLMap } from 'yaml';
import { DocumentLimits } from './document-limits.js';

/** A problem in the YAML itself, found before its content is validated. */
export type YamlProblem = { readonly offset: number; readonly message: string; readonly hint: string };

/** After one YAML mistake the library often reports every following line. */
const maxSyntaxErrors = 3;

/** The syntax trees of a text, one document at a time. Throws `LimitError` before a tree grows too large. */
export function* yamlTokens(text: string, lines: LineCounter): ReturnType<Parser['parse']> {
  const parser = new Parser(lines.addNewLine);
  const limits = new DocumentLimits();
  lines.addNewLine(0);
  for (const lexeme of new Lexer().lex(text)) {
    yield* parser.next(lexeme);
    limits.count(lexeme, parser.stack.length, parser.offset);
  }
  yield* parser.end();
}

/** Syntax errors, unknown tags, fields that are written twice, and keys that could modify JavaScript's prototypes. */
export function yamlProblems(document: Document.Parsed): YamlProblem[] {
  const problems: YamlProblem[] = document.errors.slice(0, maxSyntaxErrors).map((error) => ({
    offset: error.pos[0],
    message: `is not valid YAML: ${firstLine(error.message)}`,
    hint: 'check quotes, brackets and indentation near this line',
  }));
  for (const warning of document.warnings) {
    problems.push({ offset: warning.pos[0], message: firstLine(warning.message), hint: 'remove the tag' });
  }
  visit(document, {
    Pair(_, pair) {
      const key = isScalar(pair.key) ? pair.key : null;
      const offset = key?.range?.[0] ?? 0;
      if (key?.value === '__proto__') {
        problems.push({ offset, message: '"__proto__" is not a field', hint: 'remove it' });
      } else if (isMergeKey(key) && !canBeMerged(document, pair.value)) {
        const message = 'is not valid YAML: "<<" merges something that is no map';
        problems.push({ offset, message, hint: 'give it the alias of a map, or a list of such aliases' });
      }
    },
    Map(_, map) {
      problems.push(...repeatedFields(map));
    },
  });
  return problems;
}

/** The key of https://yaml.org/type/merge.html, which the library resolves to a symbol. In quotes it is a field. */
function isMergeKey(key: Scalar | null): boolean {
  return typeof key?.value === 'symbol' || (key?.value === '<<' && key.type === Scalar.PLAIN);
}

/** The library throws at anything else. */
function canBeMerged(document: Document.Parsed, value: unknown): boolean {
  const source = isAlias(value) ? value.resolve(document) : value;
  const all = isSeq(source) ? source.items : [source];
  return all.every((each) => isMap(isAlias(each) ? each.resolve(document) : each));
}

function* repeatedFields({ items }: YAMLMap): Generator<YamlProblem> {
  const seen = new Set<unknown>();
  for (const { key } of items) {
    if (!isScalar(key)) continue;
    if (seen.has(key.value)) {
      yield {
        offset: key.range?.[0] ?? 0,
        message: `is not valid YAML: the field ${JSON.stringify(key.value)} is written twice`,
        hint: 'keep one of the two',
      };
    }
    seen.add(key.value);
  }
}

function firstLine(message: string): string {
  return message.split('\n', 1)[0]?.replace(/ at line \d+, column \d+:?$/, '') ?? message;
}

/** How often aliases of what has aliases itself may stand in one document. */
export const maxNestedAliases = 100;

/** The document as plain data. Throws the YAML library's error when aliases expand too far ("billion laughs"). */
export function yamlToJson(document: Document.Parsed): unknown {
  return document.toJS({ maxAliasCount: maxNestedAliases });
}

/** The line of the deepest part of the path that exists, counted from 1. */
export function lineOfPath(document: Document.Parsed, lines: LineCounter, path: readonly PropertyKey[]): number | null {
  let offset = document.contents?.range?.[0];
  let node: unknown = document.contents;
  for (const segment of path) {
    const step = stepInto(document, node, segment);
    if (step === undefined) break;
    offset = step.offset ?? offset;
    node = step.node;
  }
  return offset === undefined ? null : lineAt(lines, offset);
}

/** The text of the scalar at a path as it stands in the document, without quotes; undefined: there is no scalar. */
export function writtenAt(document: Document.Parsed, path: readonly PropertyKey[]): string | undefined {
  const node = nodeAt(document, path);
  const scalar = isAlias(node) ? node.resolve(document) : node;
  return isScalar(scalar) ? scalar.source : undefined;
}

function nodeAt(document: Document.Parsed, path: readonly PropertyKey[]): unknown {
  let node: unknown = document.contents;
  for (const segment of path) node = stepInto(document, node, segment)?.node;
  return node;
}

export function lineAt(lines: LineCounter, offset: number): number {
  return lines.linePos(offset).line;
}

type Step = { readonly offset: number | undefined; readonly node: unknown };

function stepInto(document: Document.Parsed, from: unknown, segment: PropertyKey): Step | undefined {
  const node = isAlias(from) ? from.resolve(document) : from;
  if (isSeq(node) && typeof segment === 'number') {
    const item = node.items[segment];
    return item === undefined ? undefined : { offset: (item as Node).range?.[0], node: item };
  }
  if (!isMap(node)) return undefined;
  for (const pair of node.items) {
    if (isScalar(pair.key) && pair.key.value === segment) return { offset: pair.key.range?.[0], node: pair.value };
  }
  // Fields from a merge key (`<<: *base`) are not items of the map itself.
  const merged = node.items.find((pair) => isScalar(pair.key) && pair.key.value === '<<');
  return merged === undefined ? undefined : stepInto(document, merged.value, segment);
}
