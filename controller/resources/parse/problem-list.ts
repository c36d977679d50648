import { formatPath, type Problem } from '../kinds/problem.js';
import type { ResourceLocation } from './parse-documents.js';
import { formatResourceId, resourceId, resourceKey } from '../kinds/resource-key.js';
import type { Resource } from '../kinds/resource.js';

/** Further problems are dropped; one is enough to refuse. */
const maxListed = 200;

type Place = { readonly resource: Resource; readonly path: readonly PropertyKey[] };
/** A function when it is expensive to compute, such as the nearest of thousands of names. */
type Hint = string | (() => string);

/** Collects the problems of a set of resources, with their place in the text if the text is known. */
export class ProblemList {
  readonly errors: Problem[] = [];
  readonly warnings: Problem[] = [];
  readonly #locations: ReadonlyMap<string, ResourceLocation>;

  constructor({ locations }: { locations: ReadonlyMap<string, ResourceLocation> }) {
    this.#locations = locations;
  }

  error(place: Place, message: string, hint: Hint): void {
    this.#add(this.errors, 'error', place, message, hint);
  }

  warn(place: Place, message: string, hint: Hint): void {
    this.#add(this.warnings, 'warning', place, message, hint);
  }

  #add(list: Problem[], severity: Problem['severity'], { resource, path }: Place, message: string, hint: Hint): void {
    if (list.length >= maxListed) return;
    const location = this.#locations.get(resourceKey(resource));
    list.push({
      severity,
      fileName: location?.fileName ?? null,
      document: location?.document ?? null,
      line: location?.lineOf(path) ?? null,
      resource: formatResourceId(resourceId(resource)),
      path: formatPath(path),
      message,
      hint: typeof hint === 'string' ? hint : hint(),
    });
  }
}
