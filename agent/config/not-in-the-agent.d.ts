/**
 * Stands in for the controller's libraries when the agent is compiled (`paths` in agent/tsconfig.json). It has no
 * exports, so importing one of them does not compile: they validate documents and sign certificates, which an agent
 * must not be able to do.
 */
export type NotInTheAgent = never;
