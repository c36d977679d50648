import type { NodeName, ServiceName, WorkloadName } from '../../../shared/routing/names.js';

/** Names that a test writes out. */
export const workloadNamed = (name: string): WorkloadName => name as WorkloadName;
export const serviceNamed = (name: string): ServiceName => name as ServiceName;
export const nodeNamed = (name: string): NodeName => name as NodeName;
