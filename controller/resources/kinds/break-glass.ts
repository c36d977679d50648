import type { Resource } from './resource.js';

/** Annotation or label that marks an emergency (break-glass) rule; its value does not matter. */
export const breakGlassMark = 'culvert.dev/break-glass';

/** Meant to end by itself: once it has expired there is nothing to do about it. */
export function isBreakGlass({ metadata }: Pick<Resource, 'metadata'>): boolean {
  const { annotations = {}, labels = {} } = metadata;
  return Object.hasOwn(annotations, breakGlassMark) || Object.hasOwn(labels, breakGlassMark);
}
