import { z } from 'zod';
import { describeError } from '../../shared/errors.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { KubernetesError } from './kubernetes-error.js';
import type { RuleKind } from './rule-object.js';

const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const timeoutMs = 5000;

/** Why deletions of a kind wait. */
export type Hold = {
  readonly message: string;
  /** The API server did not say, so it is not known whether they should wait. */
  readonly isProblem: boolean;
};

/**
 * Why deletions of a kind must not take effect; null: they may. An API server that deletes a definition first deletes all its
 * objects, one by one, as if people had done it. It marks the definition before, so one that is there without the mark when
 * it is asked for after the deletions were seen has not caused them. Never rejects.
 */
export async function holdOf(
  { kind, definition }: RuleKind,
  api: Pick<KubernetesApi, 'get'>,
  signal: AbortSignal,
): Promise<Hold | null> {
  if (definition === null) return null;
  const kept = `what was taken of ${kind} stays in force`;
  try {
    const answer = await api.get(
      `${definitions}/${definition}`,
      AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    );
    const { deletionTimestamp = null } = schemaOf(definition).parse(answer).metadata;
    if (deletionTimestamp === null) return null;
    return { message: `the cluster deletes the definition ${definition}: ${kept}`, isProblem: false };
  } catch (error) {
    const status = error instanceof KubernetesError ? error.status : null;
    if (status === 404) {
      return { message: `the cluster has no definition ${definition} any more: ${kept}`, isProblem: false };
    }
    const why =
      status === 403
        ? `the role of the controller must allow "get" of customresourcedefinitions ${definition}`
        : error instanceof z.ZodError
          ? 'the answer of the Kubernetes API cannot be understood'
          : describeError(error);
    return {
      message: `deletions of ${kind} wait, because it is not known whether ${definition} is still defined: ${why}`,
      isProblem: true,
    };
  }
}

function schemaOf(name: string) {
  return z.object({
    kind: z.literal('CustomResourceDefinition'),
    metadata: z.object({ name: z.literal(name), deletionTimestamp: z.string().nullish() }),
  });
}
