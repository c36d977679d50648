import type { LabPlan, PlannedWorkload } from './address-plan.js';

/**
 * The text of /etc/hosts inside one namespace of a lab: machines by name, workloads as `name.namespace.workload`, services
 * and workloads as `name.namespace`, and short names as in Kubernetes, with the reader's own namespace first. When a
 * service and a workload share a name, it means the service.
 */
export function renderHostsFile(plan: LabPlan, reader: PlannedWorkload | null): string {
  const names = new Map<string, Target>();
  const claim = (name: string, target: Target): void => {
    if (!names.has(name)) names.set(name, target);
  };
  for (const machine of plan.machines) claim(machine.name, machine);
  const services = plan.services.map((service) => ({ target: service, spec: service.spec }));
  const workloads = plan.workloads.map((workload) => ({ target: workload, spec: workload.spec }));
  const everyone = [...services, ...workloads];
  for (const { target, spec } of services) claim(`${spec.name}.${spec.namespace}.svc.cluster.local`, target);
  for (const { target, spec } of workloads) claim(`${spec.name}.${spec.namespace}.workload`, target);
  for (const { target, spec } of everyone) claim(`${spec.name}.${spec.namespace}`, target);
  const own = everyone.filter(({ spec }) => spec.namespace === reader?.spec.namespace);
  for (const { target, spec } of [...own, ...everyone]) claim(spec.name, target);
  return ['127.0.0.1 localhost', '::1 localhost', ...[...names].flatMap(linesOf), ''].join('\n');
}

type Target = { readonly ipv4: string; readonly ipv6: string };

function linesOf([name, target]: [string, Target]): string[] {
  return [`${target.ipv4} ${name}`, `${target.ipv6} ${name}`];
}
