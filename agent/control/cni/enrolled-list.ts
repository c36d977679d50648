import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { writePrivateFile } from '../../../shared/private-file.js';
import { isNamespaceName, isPodUid } from '../../../shared/wire/node-enrolment.js';

/** By what the plugin decides while no agent answers. */
export type Enrolled = {
  /** Namespaces of which every pod waits that is not `outside`. */
  readonly namespaces: ReadonlySet<string>;
  /** UIDs of pods that wait, in whatever namespace. */
  readonly inside: ReadonlySet<string>;
  /** UIDs of pods that do not. */
  readonly outside: ReadonlySet<string>;
};

/**
 * The list by which the CNI plugin decides while no agent answers. It stays on the node when the agent ends and when the node
 * boots again, so it is in the state directory.
 */
export class EnrolledList {
  readonly #path: string;
  readonly #log: Log;
  #written: string | null = null;
  #next: string | null = null;
  #isWriting = false;
  #problem: string | null = null;

  constructor(init: { readonly path: string; readonly log: Log }) {
    this.#path = init.path;
    this.#log = init.log;
  }

  /** Why the plugin may decide by an older list; null: it does not. */
  get problem(): string | null {
    return this.#problem;
  }

  /** A list is there that this agent wrote. */
  get isWritten(): boolean {
    return this.#written !== null;
  }

  /** Call it often: it writes what differs from what it wrote last, and tries again what failed. Never throws. */
  update(enrolled: Enrolled): void {
    const text = formatEnrolledList(enrolled);
    if (text === this.#written && this.#next === null) return;
    this.#next = text;
    if (!this.#isWriting) void this.#write();
  }

  async #write(): Promise<void> {
    this.#isWriting = true;
    for (let text = this.#next; text !== null; text = this.#next) {
      this.#next = null;
      try {
        await writePrivateFile(this.#path, text, { forOwnerOfDirectory: true });
        this.#written = text;
        this.#problem = null;
      } catch (error) {
        const problem = `the list of enrolled namespaces could not be written: ${describeError(error)}`;
        if (problem !== this.#problem) this.#log.error({ err: error, path: this.#path }, problem);
        this.#problem = problem;
      }
    }
    this.#isWriting = false;
  }
}

/**
 * As agent/native/cni/enrolled.c reads it, up to 1 MiB; a longer one counts as damaged. What no namespace and no pod of
 * Kubernetes can be called is left out.
 */
export function formatEnrolledList({ namespaces, inside, outside }: Enrolled): string {
  const lines = [
    ...linesOf('namespace', namespaces, isNamespaceName),
    ...linesOf('inside', inside, isPodUid),
    ...linesOf('outside', outside, isPodUid),
  ];
  return ['culvert-enrolled 2', ...lines, `end ${lines.length}`, ''].join('\n');
}

function linesOf(kind: string, names: ReadonlySet<string>, isName: (name: string) => boolean): string[] {
  const sorted = [...names].filter(isName).toSorted();
  return sorted.map((name) => `${kind} ${name}`);
}
