import { CulvertError } from '../../shared/errors.js';

/** A parser that reads what others wrote. */
export type FuzzTarget = {
  readonly name: string;
  /** Whose bytes it reads. */
  readonly reads: string;
  /** Inputs that the parser takes. Mutations start with them. */
  readonly seeds: () => Promise<readonly Buffer[]> | readonly Buffer[];
  /** Latin-1 texts that mutations put in. */
  readonly words: readonly string[];
  /**
   * Gives an input to the parser, and throws if it did what it must not: throw something that is no answer, disagree with another
   * reader, or keep too much. Returns what became of the input, in few words: inputs with a new outcome are mutated further.
   */
  readonly check: (input: Buffer) => string | Promise<string>;
};

/** What a parser returned, or the error that it is meant to throw. Any other error goes on to the caller. */
export function outcomeOf(parse: () => unknown): string {
  try {
    const value = parse();
    return value === undefined || value === null ? 'nothing' : 'read';
  } catch (error) {
    return refusalOf(error);
  }
}

/** {@link outcomeOf} for a parser that takes its time. */
export async function outcomeOfAsync(parse: () => Promise<unknown>): Promise<string> {
  try {
    await parse();
    return 'read';
  } catch (error) {
    return refusalOf(error);
  }
}

function refusalOf(error: unknown): string {
  if (error instanceof CulvertError) return withoutValues(`${error.code}: ${error.message}`);
  throw error;
}

/** A message without numbers, quoted values and long words: what differs from input to input. */
export function withoutValues(message: string): string {
  return message
    .replace(/"[^"]*"|'[^']*'|`[^`]*`/g, '…')
    .replace(/\d+/g, '0')
    .replace(/[^\x20-\x7e…]+/g, '?')
    .slice(0, 120);
}

/** Makes a value when it is first needed: a target that runs alone must not wait for what others need. */
export function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
