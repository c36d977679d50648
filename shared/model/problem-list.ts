import { formatPath, type Problem } from './problem.js';
import type { ResourceLocation } from './parse-documents.js';
import { formatResourceId, resourceId, resourceKey } from './resource-key.js';
import type { Resource } from './resource.js';

/** Collects what is wrong with a set of resources, with the place in the text where the text is known. */
export class ProblemList {
  readonly errors: Problem[] = [];
  readonly warnings: Problem[] = [];
  readonly #locations: ReadonlyMap<string, ResourceLocation>;

  constructor({ locations }: { locations: ReadonlyMap<string, ResourceLocation> }) {
    this.#locations = locations;
  }

  error(at: { resource: Resource; path: readonly PropertyKey[] }, message: string, hint: string): void {
    this.errors.push({ severity: 'error', ...this.#place(at), message, hint });
  }

  warn(at: { resource: Resource; path: readonly PropertyKey[] }, message: string, hint: string): void {
    this.warnings.push({ severity: 'warning', ...this.#place(at), message, hint });
  }

  #place({ resource, path }: { resource: Resource; path: readonly PropertyKey[] }) {
    const location = this.#locations.get(resourceKey(resource));
    return {
      fileName: location?.fileName ?? null,
      document: location?.document ?? null,
      line: location?.lineOf(path) ?? null,
      resource: formatResourceId(resourceId(resource)),
      path: formatPath(path),
    };
  }
}
