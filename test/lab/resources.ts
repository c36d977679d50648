import { stringify } from 'yaml';
import type { LabPlan, PlannedService, PlannedWorkload } from './address-plan.js';

/** The topology as the mesh's own documents (YAML, several): one Workload per workload, one Service per service. */
export function renderResources(plan: LabPlan): string {
  const documents = [...plan.workloads.map(workloadDocument), ...plan.services.map(serviceDocument)];
  return documents.map((document) => stringify(document)).join('---\n');
}

function workloadDocument(workload: PlannedWorkload): unknown {
  const { spec } = workload;
  const isMeshed = spec.isMeshed ?? true;
  return {
    apiVersion: 'culvert.dev/v1',
    kind: 'Workload',
    metadata: {
      name: spec.name,
      namespace: spec.namespace,
      ...(spec.labels === undefined ? {} : { labels: spec.labels }),
    },
    spec: {
      serviceAccount: spec.serviceAccount,
      addresses: [workload.ipv4, workload.ipv6],
      ...(isMeshed ? { node: workload.host, netns: workload.netns } : {}),
      ...(spec.ports === undefined ? {} : { ports: spec.ports }),
      ...(spec.capture === undefined ? {} : { capture: spec.capture }),
    },
  };
}

function serviceDocument(service: PlannedService): unknown {
  const { spec } = service;
  return {
    apiVersion: 'culvert.dev/v1',
    kind: 'Service',
    metadata: { name: spec.name, namespace: spec.namespace },
    spec: { vips: [service.ipv4, service.ipv6], ports: spec.ports, selector: spec.selector },
  };
}
