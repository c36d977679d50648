/**
 * What the agent gets in place of the controller's libraries (`paths` in agent/tsconfig.json): no export at all, so that an
 * import of one does not compile. They judge documents and sign certificates, which an agent must not be able to do.
 */
export type NotInTheAgent = never;
